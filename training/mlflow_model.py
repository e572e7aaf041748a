"""Lets MLflow's own tools score with a tenure artefact: a model from code, which pickles nothing.

tenure itself never loads a model through this file. The environment that does must have tenure installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from training.model import load_model


class TenurePythonModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Features in, probabilities out."""

    def load_context(self, context: Any) -> None:
        """Read the artefact; its hashes are checked before anything is parsed."""
        self.model = load_model(Path(context.artifacts["artefact"]), key=None)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Probability of churn per row, shape (n, 1)."""
        return pd.DataFrame({"probability": self.model.probabilities(model_input)})


mlflow.models.set_model(TenurePythonModel())
