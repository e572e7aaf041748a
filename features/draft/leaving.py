"""Who was a customer when, where no single file says it: queries that make contracts, accounts and purchases."""

from __future__ import annotations

from collections.abc import Sequence

from features.data_contract import table as contract_table
from features.draft.guess import Guess, account_column, is_leaving, is_purchases, left_column, matching
from features.draft.look import Column, File
from features.draft.synonyms import PRICES, QUANTITIES

_MOSTLY = 0.8


def add_contracts(guesses: dict[str, Guess], files: Sequence[File]) -> None:
    """Complete, or make, the guess of `contracts` from subscriptions, a list of who left, and the accounts."""
    leaving = next((file for file in files if is_leaving(file)), None)
    contracts, accounts = guesses.get("contracts"), guesses.get("accounts")
    if contracts is None:
        if accounts is not None:
            _from_accounts(guesses, accounts)
        if "contracts" not in guesses and accounts is not None and leaving is not None:
            guesses["contracts"] = _from_leaving(accounts, leaving)
    elif _are_bill_periods(contracts):
        _bill_periods(contracts, leaving)
    elif leaving is not None:
        _compare(contracts, accounts, leaving)


def _from_accounts(guesses: dict[str, Guess], accounts: Guess) -> None:
    """Accounts that carry their contract: one contract each, with what the file says of it."""
    contract, told = contract_table("contracts"), {}
    for column in contract.columns:
        found = matching(contract, column, accounts.file, ())
        if found is not None and column.name not in ("account_id", "known_at", "contract_id"):
            told[column.name] = found.name
    if "start_at" not in told and "started_at" in accounts.columns:
        told["start_at"] = accounts.columns["started_at"]
    if "start_at" not in told or not {"mrr", "arr"} & set(told):
        return
    chosen = [f'"{column}" as {name}' for name, column in told.items()]
    account = f'"{accounts.columns["account_id"]}" as account_id'
    accounts.used |= set(told.values())
    accounts.columns.pop("churned_at", None)
    guesses["contracts"] = Guess(
        table="contracts",
        file=accounts.file,
        query=",\n       ".join([f"select {account}", *chosen]) + "\nfrom accounts",
        unsure=["one contract per account, from the columns of the accounts"],
        used={column.name for column in accounts.file.columns},
    )


def _from_leaving(accounts: Guess, leaving: File) -> Guess:
    started = accounts.columns.get("started_at", "")
    query = (
        f"select accounts.{_q(accounts.columns['account_id'])} as account_id, accounts.{_q(started)} as start_at,\n"
        f"       max(gone.{_name(left_column(leaving))}) as ended_at, 0 as mrr\n"
        f"from accounts left join {_q(leaving.name)} as gone\n"
        f"    on gone.{_name(account_column(leaving))} = accounts.{_q(accounts.columns['account_id'])}\ngroup by all"
    )
    said = "mrr: no file tells what an account pays, and 0 stands in for it"
    return Guess(table="contracts", file=leaving, query=query, unsure=[said])


def _are_bill_periods(contracts: Guess) -> bool:
    """Whether most rows begin where another row of the account ends: periods that were paid for, not contracts."""
    given = contracts.columns
    if not {"account_id", "start_at", "term_end_at"} <= set(given) or "ended_at" in given:
        return False
    account, start, end = (_q(given[name]) for name in ("account_id", "start_at", "term_end_at"))
    follows = f"({account}, {start}) in (select ({account}, {end}) from {contracts.file.reader})"
    return not contracts.file.is_key(given["account_id"]) and contracts.file.share(follows) > _MOSTLY


def _bill_periods(contracts: Guess, leaving: File | None) -> None:
    """Contracts are runs of bill periods less than a week apart; every period is a version of its contract."""
    given, source = contracts.columns, _q(contracts.file.name)
    account, start, end = (_q(given[name]) for name in ("account_id", "start_at", "term_end_at"))
    sums = [f"sum({_q(given[name])}::double) as {name}" for name in ("mrr", "arr") if name in given]
    texts = [
        f"arg_max({_q(given[name])}, cost) as {name}" for name in ("plan", "seats", "term_months") if name in given
    ]
    money = _q(given.get("mrr", given.get("arr", "")))
    # What ends last ends the contract; what costs most gives it its plan.
    left = "null::timestamp"
    joined = ""
    if leaving is not None:
        left = "gone.left_at"
        joined = (
            f"\nleft join (select {_name(account_column(leaving))} as account_id, "
            f"{_name(left_column(leaving))}::timestamp as left_at from {_q(leaving.name)}) as gone\n"
            "    on gone.account_id = versions.account_id and gone.left_at between versions.known_at and term_end_at"
        )
    contracts.query = f"""with periods as (
    select *, {account} as account_id, {start}::timestamp as start_at, {end}::timestamp as end_at,
           {money}::double as cost from {source}
), begins as (
    select distinct account_id, start_at from periods
), marked as (
    select *, start_at > (
        select max(end_at) + interval 7 day from periods
        where periods.account_id = begins.account_id and periods.start_at < begins.start_at
    ) as is_new
    from begins
), runs as (
    select *, count(*) filter (is_new) over (partition by account_id order by start_at) as run from marked
), versions as (
    select begins.account_id, begins.run, begins.start_at as known_at, max(end_at) as term_end_at,
           {", ".join(sums)},
           {", ".join(texts) or "null as plan"}
    from runs as begins join periods on periods.account_id = begins.account_id
        and periods.start_at <= begins.start_at and periods.end_at > begins.start_at
    group by all
)
select versions.* exclude (run), run as contract_id, {left} as ended_at,
       min(known_at) over (partition by versions.account_id, run) as start_at
from versions{joined}"""
    contracts.columns, contracts.used = {}, set()
    contracts.unsure = [
        "rows are bill periods that follow one another: each is a version of one contract, known when it begins; "
        "less than a week between two is no churn",
        "products are summed up; if one of them (an add-on) cannot keep an account alone, leave it out of `periods`",
    ]
    if leaving is None:
        contracts.unsure.append("ended_at: nothing says who left; an account whose periods stop is taken to stay")


def _compare(contracts: Guess, accounts: Guess | None, leaving: File) -> None:
    """Where the list of who left and the subscriptions contradict each other, the list tells."""
    given = contracts.columns
    ended = _q(given["ended_at"]) if "ended_at" in given else "null"
    gone = f"select {_name(account_column(leaving))} from {leaving.reader}"
    open_still = contracts.file.share(f"{ended} is null and {_q(given.get('account_id', ''))} in ({gone})")
    if accounts is None or "started_at" not in accounts.columns or not open_still:
        contracts.unsure.append(f"{leaving.name} also says who left; it is not read")
        return
    names = (_q(accounts.columns["account_id"]), _q(accounts.columns["started_at"]))
    contracts.query = _spells(contracts, leaving, *names)
    contracts.columns, contracts.used = {}, set()
    contracts.unsure = [
        f"{open_still:.0%} of the rows of {contracts.file.name} are open though {leaving.name} lists their account: "
        f"who was a customer when is told by {leaving.name} alone, from the start of the account or the day after it "
        "left, to the next time it left",
        f"mrr: what the rows of {contracts.file.name} begun by then add up to",
    ]


def _spells(contracts: Guess, leaving: File, account: str, started: str) -> str:
    given = contracts.columns
    money = _q(given.get("mrr", given.get("arr", "")))
    name = "mrr" if "mrr" in given else "arr"
    return f"""with ends as (
    select distinct {_name(account_column(leaving))} as account_id, {_name(left_column(leaving))}::date as ended_at
    from {_q(leaving.name)}
), begins as (
    select {account} as account_id, {started}::date as start_at from accounts
    union
    select account_id, ended_at + interval 1 day from ends
), spells as (
    select account_id, start_at,
           (select min(ended_at) from ends
            where ends.account_id = begins.account_id and ends.ended_at > begins.start_at) as ended_at
    from begins
), priced as (
    select {_q(given["account_id"])} as account_id, {_q(given["start_at"])}::date as start_at, {money}::double as price
    from {_q(contracts.file.name)}
)
select account_id, start_at, ended_at,
       coalesce((select sum(price) from priced
                 where priced.account_id = spells.account_id and priced.start_at <= spells.start_at), 0) as {name}
from spells
where start_at >= (select {started}::date from accounts where accounts.{account} = spells.account_id)
order by account_id, start_at"""


def add_purchases(guesses: dict[str, Guess], files: Sequence[File]) -> bool:
    """Accounts, usage and invoices from a list of purchases; whether there is one and no contract beside it."""
    file = next((file for file in files if is_purchases(file)), None)
    if file is None:
        return False
    account, at = account_column(file), next(column for column in file.columns if column.is_time)
    if account is None:
        return False
    price = next(file.by_words[name] for name in PRICES if name in file.by_words)
    count = next(file.by_words[name] for name in QUANTITIES if name in file.by_words)
    invoice = matching(contract_table("invoices"), contract_table("invoices").column("invoice_id"), file, ())
    who, amount = _id(account), f"{_name(count)}::double * {_name(price)}::double"
    known = f"from {_q(file.name)} where {_name(account)} is not null"
    used = {column.name for column in (account, at, price, count, *([invoice] if invoice else []))}
    region = matching(contract_table("accounts"), contract_table("accounts").column("region"), file, used)
    more = f", any_value({_name(region)}) as region" if region else ""
    key = f"{_name(invoice)} as invoice_id, " if invoice else ""
    queries = {
        "accounts": f"select {who} as account_id, min({_name(at)}) as started_at{more}\n{known} group by 1 order by 1",
        "usage": f"select {who} as account_id, min({_name(at)}) as event_at, sum({_name(count)}::double) as quantity\n"
        f"{known} and {_name(count)}::double > 0 group by {_name(account)}, {_name(invoice or at)} order by 1, 2",
    }
    if invoice:
        queries["invoices"] = (
            f"select {key}{who} as account_id, min({_name(at)}) as issued_at, sum({amount}) as amount\n"
            f"{known} group by {_name(invoice)}, {_name(account)} order by 1, 2"
        )
    for name, query in queries.items():
        if name not in guesses:
            guesses[name] = Guess(table=name, file=file, query=query, used=used | ({region.name} if region else set()))
    return "contracts" not in guesses


def _id(column: Column) -> str:
    whole = column.stored in ("DOUBLE", "FLOAT") and column.is_whole
    return f"{_name(column)}::bigint::varchar" if whole else _name(column)


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _name(column: Column | None) -> str:
    return "null" if column is None else _q(column.name)
