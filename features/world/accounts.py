"""Who the accounts of a generated company are: names, markets, parents and the CSMs that look after them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from features.world.state import SEGMENTS, Ints, Traits, account_ids, generator

_FIRST = (
    "Alder Amber Arbor Aster Atlas Beacon Birch Blue Bright Cedar Clear Cobalt Copper Coral Crest Delta "
    "Dune Ember Falcon Fern Flint Forge Garnet Glacier Golden Granite Harbor Hazel Heron Indigo Iron "
    "Ivory Jade Juniper Keystone Lark Linden Lunar Maple Marble Meadow Mistral North Oak Onyx Orchard "
    "Osprey Pine Quarry Raven River Rowan Saffron Sierra Silver Slate Solar Stone Summit Swift Teal "
    "Thistle Tidal Timber Umber Vale Velvet Violet Willow Zephyr"
)
_SECOND = (
    "bay bridge brook crest dale field ford gate grove haven hill lake land line mark mill peak point "
    "port ridge shore side spring stead view way wood works yard"
)
_THIRD = "Analytics Care Foods Freight Health Labs Logistics Media Partners Retail Systems Tools"
_INDUSTRIES = ("software", "manufacturing", "health", "retail", "logistics", "finance", "education", "media")
_REGIONS = ("north_america", "europe", "asia_pacific", "latin_america")
_CSMS = (
    "Ana_Reyes Ben_Okafor Chloe_Martin Daniel_Novak Elif_Kaya Farid_Haddad Grace_Lee Hugo_Silva "
    "Ines_Weber Jonas_Lind Keiko_Mori Liam_Byrne Maya_Patel Nils_Berg Olga_Petrov Priya_Nair Quentin_Roy "
    "Rosa_Conti Sam_Carter Tara_Singh Umar_Aziz Vera_Kos Wen_Zhao Xenia_Popa Yusuf_Demir Zoe_Clarke"
)
_TRIALS = ("none", "self_service", "guided")
_EMPLOYEES = np.array([30, 250, 2500])
_ACCOUNTS_A_CSM = 80


def account_columns(traits: Traits, seed: int) -> dict[str, list[str]]:
    """Name, segment, industry and region of every account, and the number of its first CSM."""
    random = generator(seed, 0, "accounts")
    accounts = len(traits.users)
    words = ([first + second for first in _FIRST.split() for second in _SECOND.split()], _THIRD.split())
    combinations = math.prod(len(part) for part in words)
    places = random.permutation(max(combinations, accounts))[:accounts]
    return {
        "account_id": account_ids(accounts),
        "name": [_name(int(place), words) for place in places],
        "segment": [SEGMENTS[kind] for kind in traits.segment],
        "industry": [_INDUSTRIES[kind] for kind in random.integers(0, len(_INDUSTRIES), accounts)],
        "region": [_REGIONS[kind] for kind in random.choice(4, accounts, p=(0.45, 0.35, 0.13, 0.07))],
    }


def first_managers(accounts: int, seed: int) -> Ints:
    """The number of the CSM each account starts with."""
    return generator(seed, 0, "managers").integers(0, max(1, round(accounts / _ACCOUNTS_A_CSM)), accounts)


def manager_names(managers: Ints) -> pa.Array:
    """The id of each CSM."""
    people = [name.replace("_", " ") for name in _CSMS.split()]
    return pa.array([_name(number, (people,)) for number in range(int(managers.max()) + 1)])


def account_table(traits: Traits, seed: int, managers: Ints, names: pa.Array, modules: tuple[str, ...]) -> pa.Table:
    """The exported `accounts` without their start; `managers` look after them now."""
    random, accounts = generator(seed, 0, "profiles"), len(traits.users)
    table = pa.table(account_columns(traits, seed))
    single = np.bincount(traits.leader, minlength=accounts)[traits.leader] == 1
    parents = pa.array([f"par-{leader:05d}" for leader in traits.leader.tolist()]).to_numpy(zero_copy_only=False)
    employees = np.ceil(_EMPLOYEES[traits.segment] * np.exp(0.6 * random.normal(size=accounts)))
    trials = random.choice(3, accounts, p=(0.5, 0.3, 0.2))
    return (
        table.append_column("csm_id", names.take(pa.array(managers)))
        .append_column("parent_id", pa.array(parents, pa.string(), mask=single))
        .append_column("employees", pa.array(employees.astype(np.int64)))
        .append_column("currency", pa.array(["EUR"] * accounts))
        .append_column("trial_type", pa.array(_TRIALS).take(pa.array(trials)))
        .append_column("sold_use_case", pa.array(modules).take(pa.array(random.integers(0, len(modules), accounts))))
    )


def _name(place: int, words: tuple[list[str], ...]) -> str:
    parts = []
    for part in words:
        place, chosen = divmod(place, len(part))
        parts.append(part[chosen])
    return " ".join([*parts, str(place + 1)] if place else parts)
