"""Where features are declared: one room a subject, one declaration a feature."""
