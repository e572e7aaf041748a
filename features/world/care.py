"""What a generated company does for its accounts: touches, tasks and e-mails of one month.

Sick accounts are visited more: a touch is a sign of trouble, not its cure.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from features.world.loads import Loads
from features.world.people import Roster
from features.world.rows import HOUR, Columns, Export, Month, sigmoid
from features.world.state import Floats, Ints, Traits, generator

_TOUCHES, _TASKS = 6, 2
"""At most so many a month and account."""
_TOUCH_RATE = np.array([0.5, 1.0, 2.2])
_MAIL_DAYS = (8, 22)
_CHANNELS = ("call", "email", "meeting")
_KINDS = ("proactive", "reactive")
_DIRECTIONS = ("in", "out")
_TOPICS = ("advice", "complaint", "price", "competitor", "referral", "reference", "training", "review", "renewal")
_ASKED, _OFFERED = 6, 3
"""The first topics come from the account, the last ones from us."""


def touch_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """Calls, messages and meetings, in both directions."""
    random = generator(seed, month.number, "touches")
    accounts, days = month.present.shape
    lot = random.random((9, accounts, _TOUCHES))
    day = np.floor(lot[0] * days).astype(np.int64)
    account = np.repeat(np.arange(accounts)[:, None], _TOUCHES, axis=1)
    felt = month.felt(day)
    rate = _TOUCH_RATE[traits.segment][:, None] * np.exp(0.3 * felt[..., 1] + 0.2 * felt[..., 0])
    happens = month.present[account, day] & (lot[1] < np.minimum(rate / _TOUCHES, 1))
    is_inbound = lot[2] < sigmoid(0.5 * felt[..., 1] - 0.6)
    channel = np.searchsorted([0.35, 0.75], lot[3], side="right")
    at = month.first_day + day + (8 + 9 * lot[4]) * HOUR
    place = _partner(traits, month, account, day, lot[5])
    columns = {
        "account": account,
        "person": Roster(traits).index(account, place, month.generation[account]),
        "manager": month.manager[account],
        "event_at": at,
        "direction": 1 - is_inbound.astype(np.int64),
        "kind": (is_inbound | (lot[6] < 0.25)).astype(np.int64),
        "channel": channel,
        "topic": np.where(is_inbound, _asked(felt, lot[7]), _ASKED + np.floor(lot[7] * _OFFERED)).astype(np.int64),
        **_reactions(felt, at, lot[8], is_call=is_inbound & (channel == 0), is_mail=is_inbound & (channel == 1)),
        "invites": ~is_inbound & (channel == 2),
    }
    return {name: column[happens] for name, column in columns.items()}


def _partner(traits: Traits, month: Month, account: Ints, day: Ints, lot: Floats) -> Ints:
    """The place of the user we speak with; while the champion's is empty, the next one."""
    place = np.floor(lot**2 * np.minimum(traits.users, 4)[:, None]).astype(np.int64)
    return np.where((place == 0) & month.empty[account, day], 1, place)


def _asked(felt: Floats, lot: Floats) -> Floats:
    """The topic an account brings: who is content asks for advice and refers others."""
    adoption, service, price = np.moveaxis(felt, 2, 0)
    weight = np.exp(np.stack([1.2 - 0.3 * adoption, 0.7 * service, 0.7 * price - 0.4, 0.6 * price - 1.2,
                              -1.4 - 0.4 * service - 0.4 * adoption, -1.9 - 0.4 * service]))  # fmt: skip
    ladder = np.cumsum(weight, axis=0) / weight.sum(axis=0)
    return np.asarray((lot > ladder[:-1]).sum(axis=0))


def _reactions(felt: Floats, at: Floats, lot: Floats, *, is_call: Ints, is_mail: Ints) -> Columns:
    """When a call was answered, a message replied to, and whether an invitation was accepted."""
    answered = at + (8 - 25 * np.log1p(-0.99 * lot)) / 86_400
    replied = at + (0.5 - 14 * np.log1p(-0.99 * lot)) * HOUR
    return {
        "ring_at": np.where(is_call, at, np.nan),
        "answered_at": np.where(is_call & (lot < 0.92), answered, np.nan),
        "replied_at": np.where(is_mail & (lot < 0.94), replied, np.nan),
        "accepts": lot < sigmoid(1.5 - 0.5 * felt[..., 0] - 0.3 * felt[..., 1]),
    }


def touch_table(columns: Columns, export: Export, loads: Loads, managers: pa.Array) -> pa.Table:
    """The exported `touches`; only an invitation to a meeting is accepted or declined."""
    invites, accepts = columns["invites"].astype(bool), columns["accepts"].astype(bool)
    known = loads.nightly("touches", columns["account"], columns["event_at"].astype(np.float64))
    shown = export.known({**columns, "known_at": known})
    texts = {"direction": _DIRECTIONS, "kind": _KINDS, "channel": _CHANNELS, "topic": _TOPICS, "manager": managers}
    table = export.table({name: column for name, column in shown.items() if name not in ("invites", "accepts")}, texts)
    asked, said = invites[known < export.end], accepts[known < export.end]
    names = ["csm_id" if name == "manager" else name for name in table.column_names]
    return table.rename_columns(names).append_column("accepted", pa.array(said, mask=~asked))


def task_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """Tasks and meetings planned; more of them slip where the account is in trouble."""
    random = generator(seed, month.number, "tasks")
    accounts, days = month.present.shape
    lot = random.random((6, accounts, _TASKS))
    day = np.floor(lot[0] * days).astype(np.int64)
    account = np.repeat(np.arange(accounts)[:, None], _TASKS, axis=1)
    trouble = month.felt(day)[..., :2].sum(axis=2)
    happens = month.present[account, day] & (lot[1] < np.minimum(0.5 * _TOUCH_RATE[traits.segment], 1)[:, None])
    at = month.first_day + day + (8 + 9 * lot[2]) * HOUR
    due = np.floor(at) + 7 + np.floor(28 * lot[3])
    done = np.maximum(due + (10 - 16 * lot[4]) + 17 * HOUR, at + HOUR)
    columns = {
        "account": account,
        "number": month.number * _TASKS + np.broadcast_to(np.arange(_TASKS), happens.shape),
        "event_at": at,
        "due_at": due,
        "done_at": np.where(lot[5] < sigmoid(1.7 - 0.35 * trouble), done, np.nan),
    }
    return {name: column[happens] for name, column in columns.items()}


def email_rows(traits: Traits, month: Month, seed: int) -> Columns:
    """Two newsletters a month to every account; who doubts the product clicks less and unsubscribes more."""
    random = generator(seed, month.number, "emails")
    accounts = len(traits.users)
    lot = random.random((4, accounts, len(_MAIL_DAYS)))
    day = np.broadcast_to(np.array(_MAIL_DAYS), lot.shape[1:])
    account = np.repeat(np.arange(accounts)[:, None], len(_MAIL_DAYS), axis=1)
    doubt = month.felt(day)[..., 0]
    delivered = lot[0] < 0.97
    clicked = delivered & (lot[1] < sigmoid(0.4 * traits.voice[:, None] - 0.45 * doubt - 1.4))
    at = month.first_day + day + 10 * HOUR
    leaves = delivered & (lot[2] < 0.003 * np.exp(0.6 * doubt))
    columns = {
        "account": account,
        "event_at": at,
        "delivered": delivered,
        "clicked": clicked,
        "unsubscribed_at": np.where(leaves, at + 0.1 + lot[3], np.nan),
    }
    happens = month.present[account, day]
    return {name: column[happens] for name, column in columns.items()}
