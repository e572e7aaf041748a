"""Who at the account knows us, who speaks for us, and who of us looks after it.

Source: `contacts` in the version known at `as_of`, their `touches` and logins, and `assignments`. Who leaves at or
after `as_of` is still there.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from features.examples import example
from features.families.engagement import one, touches_known
from features.family import Family, Feature
from features.snapshots import contracts_known
from features.tables import Tables
from features.windows import age_days, known_before, known_outcome, newest_before

ACTIVE_DAYS = 91
_DEED = ("account_id", "as_of", "contact_id", "age_days")


def contacts_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each contact in the version known at the instant; the age counts from when they left, missing while they stay."""
    known = newest_before(tables["contacts"], instants, "contact_id")
    left_at = known_outcome(known.left_at, known.as_of)
    return known.mutate(
        is_here=left_at.isnull(),
        age_days=age_days(left_at, known.as_of),
        sponsor=one(known.is_sponsor & left_at.isnull()),
        champion_left=one(known.is_champion & left_at.notnull()),
    )


def _activity(tables: Tables, instants: ir.Table) -> ir.Table:
    """What contacts who are still there did, and an idle row for each champion on file, so that 0 differs from none."""
    # A month of use does not tell whether the last four weeks saw any.
    is_daily = tables.usage_period != "month" or not tables.has("usage", "user_id")
    people = contacts_known(tables, instants).filter(ibis._.is_here)
    people = people.select("account_id", "as_of", "contact_id", is_champion=people.is_champion.fill_null(False))
    deeds = ibis.union(_touched(tables, instants), _used(tables, instants, is_daily=is_daily))
    did = deeds.join(people, ["account_id", "as_of", "contact_id"])
    idle = people.filter(people.is_champion).mutate(age_days=ibis.literal(1, "int64"))
    return ibis.union(
        did.select(*_DEED, champion_active=ibis.ifelse(did.is_champion, did.answered, ibis.null("int8"))),
        idle.mutate(contact_id=ibis.null("string")).select(
            *_DEED, champion_active=ibis.literal(0 if is_daily else None, "int8")
        ),
    )


def _touched(tables: Tables, instants: ir.Table) -> ir.Table:
    touches = touches_known(tables, instants, within_days=ACTIVE_DAYS)
    return touches.select(*_DEED, answered=one(touches.is_two_way))


def _used(tables: Tables, instants: ir.Table, *, is_daily: bool) -> ir.Table:
    days = known_before(tables["user_days"], instants, within_days=ACTIVE_DAYS)
    return days.mutate(contact_id=days.user_id).select(*_DEED, answered=ibis.literal(1 if is_daily else None, "int8"))


def _agreed(tables: Tables, instants: ir.Table) -> ir.Table:
    """Touches beside instants, with 1 where a reference or referral was given and not merely asked for."""
    touches = touches_known(tables, instants).filter(ibis._.topic.isin(["reference", "referral"]))
    agreed = touches.is_two_way & touches.accepted.fill_null(True)
    return touches.mutate(
        reference=one(agreed & (touches.topic == "reference")), referral=one(agreed & (touches.topic == "referral"))
    )


def _owners(tables: Tables, instants: ir.Table) -> ir.Table:
    """Assignments that changed the owner, and a row with the load of who looks after the account now."""
    turns = owners_known(tables, instants)
    unknown = ibis.null("int64")
    load = _load(tables, instants, turns)
    return ibis.union(
        turns.select("account_id", "as_of", "age_days", changed=turns.changed, load=unknown),
        load.select(
            "account_id", "as_of", age_days=ibis.literal(1, "int64"), changed=ibis.literal(0, "int8"), load=load.load
        ),
    )


def owners_known(tables: Tables, instants: ir.Table) -> ir.Table:
    """Each assignment known at the instant; `changed` is 1 where it came after another owner's."""
    known = newest_before(tables["assignments"], instants, "csm_id", "from_at")
    in_turn = ibis.window(group_by=["account_id", "as_of"], order_by=[known.from_at, known.csm_id])
    return known.mutate(changed=one(known.csm_id != known.csm_id.lag().over(in_turn)))


def _load(tables: Tables, instants: ir.Table, known: ir.Table) -> ir.Table:
    """Per instant and account with a live contract: how many such accounts its owner has."""
    current = known.filter(known_outcome(known.to_at, known.as_of).isnull())
    newest = ibis.window(group_by=["account_id", "as_of"], order_by=[current.from_at.desc(), current.csm_id.desc()])
    owners = current.mutate(turn=ibis.row_number().over(newest)).filter(ibis._.turn == 0)
    contracts = contracts_known(tables, instants)
    live = contracts.filter(contracts.is_live).select("account_id", "as_of").distinct()
    owned = owners.select("account_id", "as_of", "csm_id").semi_join(live, ["account_id", "as_of"])
    return owned.mutate(load=owned.count().over(ibis.window(group_by=["csm_id", "as_of"])))


_CONTACTS = "contact_id is_champion left_at; "

CONTACTS = Family(
    name="contacts",
    source="contacts",
    owner="customer success operations",
    rows=contacts_known,
    features=(
        Feature(
            name="champion_left_91d",
            formula=lambda contact: contact.champion_left.max(),
            label="a champion left in the last 91 days",
            meaning="A contact marked as champion left the account in the 91 days before `as_of`.",
            unit="0/1", window=91, missing="F", sign=1, group="relationship", actionable=True,
            needs=("contacts.is_champion", "contacts.left_at"),
            examples=(
                example(1, "on the border", contacts=_CONTACTS + "p yes -91; q yes ."),
                example(0, "a day older, at the instant", contacts=_CONTACTS + "p yes -92; q yes 0; r no -9"),
                example(0, "learned later",
                        contacts="contact_id is_champion left_at known_at; p yes . -99; p yes -9 1"),
            ),
        ),
        Feature(
            name="has_known_sponsor",
            formula=lambda contact: contact.sponsor.max(),
            label="a sponsor is known",
            meaning="A contact marked as executive sponsor is on file at `as_of` and has not left.",
            unit="0/1", missing="F", sign=-1, group="relationship", actionable=True,
            needs=("contacts.is_sponsor",),
            examples=(
                example(1, "leaves at the instant", contacts="contact_id is_sponsor left_at; p yes -9; q yes 0"),
                example(0, "left, and a sponsor no more",
                        contacts="contact_id is_sponsor left_at known_at; p yes -9 -99; q yes . -99; q no . -98"),
                example(0, "nobody on file"),
            ),
        ),
    ),
)  # fmt: skip

ACTIVITY = Family(
    name="contact_activity",
    source="contacts",
    owner="customer success operations",
    rows=_activity,
    features=(
        Feature(
            name="active_contacts_91d",
            formula=lambda deed: deed.contact_id.nunique(),
            label="contacts active in the last 91 days",
            meaning="Contacts on file who have not left, with a touch, answered or not, or with use under a user_id "
            "equal to their contact_id, in the 91 days before `as_of`.",
            unit="contacts", window=91, missing="Z", sign=-1, group="relationship", actionable=True,
            needs=("touches.contact_id",),
            examples=(
                example(2, "a touch and a login", contacts="contact_id; p; q; r",
                        touches="event_at direction contact_id; -91 out p; -9 in p; -92 in r",
                        usage="event_at user_id quantity; -9 q 1; -9 stranger 1"),
                example(0, "left, not on file, at the instant", contacts="contact_id left_at; p -1; q .",
                        touches="event_at direction contact_id; -9 in p; -9 in stranger; 0 in q"),
            ),
        ),
        Feature(
            name="champion_active_28d",
            formula=lambda deed: deed.champion_active.max(),
            label="the champion was active in the last 28 days",
            meaning="A champion on file who has not left used the product (user_id equal to contact_id) or had a touch "
            "that was inbound, answered, replied to or accepted, in 28 days; missing where no champion is on file, and "
            "where use is told by the month, which says nothing of 28 days, unless a touch says yes.",
            unit="0/1", window=28, missing="E", sign=-1, group="relationship", actionable=True,
            needs=("contacts.is_champion", "contacts.activity"),
            examples=(
                example(1, "used it", contacts=_CONTACTS + "p yes .", usage="event_at user_id quantity; -28 p 1"),
                example(1, "answered", contacts=_CONTACTS + "p yes .; q yes .",
                        touches="event_at direction contact_id replied_at; -28 out q -27"),
                example(0, "not answered, too old, another's", contacts=_CONTACTS + "p yes .; q no .",
                        touches="event_at direction contact_id replied_at; -9 out p 0; -29 in p .; -9 in q ."),
                example(None, "none who has not left", contacts=_CONTACTS + "p yes -1; q no .",
                        touches="event_at direction contact_id; -9 in p; -9 in q"),
            ),
        ),
    ),
    ratios=(
        Feature(
            name="is_single_contact",
            formula=lambda row: row.active_contacts_91d <= 1,
            label="at most one contact is active",
            meaning="active_contacts_91d is 0 or 1.",
            unit="0/1", window=91, missing="F", sign=1, group="relationship", actionable=True,
            needs=("touches.contact_id",),
            examples=(
                example(1, contacts="contact_id; p; q", touches="event_at direction contact_id; -9 in p; -92 in q"),
                example(0, contacts="contact_id; p; q", touches="event_at direction contact_id; -9 in p; -91 in q"),
                example(1, "none at all"),
            ),
        ),
    ),
)  # fmt: skip

REFERENCES = Family(
    name="references",
    source="touches",
    owner="customer marketing",
    rows=_agreed,
    features=(
        Feature(
            name="is_reference",
            formula=lambda touch: touch.reference.max(),
            label="agreed to be a reference",
            meaning="A touch before `as_of` of the topic `reference`, inbound, answered, replied to or accepted, and "
            "not declined.",
            unit="0/1", missing="F", sign=-1, group="relationship", actionable=True,
            needs=("touches.topic", "touches.direction"),
            examples=(
                example(1, touches="event_at direction topic; -700 in Reference"),
                example(0, "declined, and not answered", touches="event_at direction topic accepted replied_at; "
                        "-9 out reference no -8; -9 out reference . ."),
            ),
        ),
        Feature(
            name="referrals_364d",
            formula=lambda touch: touch.referral.sum(),
            label="referrals given in 364 days",
            meaning="Touches of the topic `referral` in 364 days, inbound, answered, replied to or accepted, and not "
            "declined.",
            unit="referrals", window=364, missing="Z", sign=-1, group="relationship", actionable=True,
            needs=("touches.topic", "touches.direction"),
            examples=(
                example(2, touches="event_at direction topic accepted; -364 in referral .; -365 in referral .; "
                        "-9 out referral yes; -8 out referral ."),
                example(0, "given at the instant", touches="event_at direction topic; 0 in referral"),
            ),
        ),
    ),
)  # fmt: skip

_TURNS = "csm_id from_at to_at; "

OWNERS = Family(
    name="owners",
    source="assignments",
    owner="customer success operations",
    rows=_owners,
    features=(
        Feature(
            name="csm_changes_364d",
            formula=lambda turn: turn.changed.sum(),
            label="changes of the CSM in 364 days",
            meaning="Assignments that began in 364 days and gave the account to another CSM than the one before.",
            unit="changes", window=364, missing="Z", sign=1, group="context", actionable=False,
            examples=(
                example(2, "away and back", assignments=_TURNS + "anna -800 -364; ben -364 -9; anna -9 ."),
                example(0, "the first, and the same again", assignments=_TURNS + "anna -300 -100; anna -90 ."),
                example(0, "too old, at the instant", assignments=_TURNS + "anna -800 -365; ben -365 0; carl 0 ."),
            ),
        ),
        Feature(
            name="csm_account_load",
            formula=lambda turn: turn.load.max(),
            label="accounts of the CSM",
            meaning="Accounts with a live contract whose newest assignment open at `as_of` is to the CSM of this one, "
            "itself included; 0 where nobody has it.",
            unit="accounts", missing="Z", sign=1, group="context", actionable=False,
            examples=(
                example(2, "one gone, one handed on, one without a contract",
                        assignments="account_id csm_id from_at to_at; me dora -99 .; b dora -99 0; c dora -99 -9; "
                        "d dora -99 .; d emil -9 .; e dora -99 .",
                        contracts="account_id contract_id start_at mrr; me c -99 1; b c -99 1; c c -99 1; d c -99 1"),
                example(0, "nobody now", assignments=_TURNS + "fritz -99 -9"),
            ),
        ),
    ),
)  # fmt: skip

FAMILIES = (CONTACTS, ACTIVITY, REFERENCES, OWNERS)
