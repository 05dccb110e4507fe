"""What a query of somebody's is, told from its text alone: one statement that reads, and the functions it calls.

The database is what keeps a query from writing (a read-only file, a read-only transaction). On PostgreSQL that leaves
functions that any role may call and that do more than compute: end other connections, take locks, sleep, run SQL from
a string. Only names that are known to compute are let through there; SQLite asks its authorizer, which needs no text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LONGEST = 50_000
"""Of a query. Unit: characters."""

_SQLITE_LEAD = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)
_BLANK = re.compile(r"[ \t\n\r\f\v]+|--[^\r\n]*")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_WORD = re.compile(r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*")
_DIGITS = re.compile(r"[0-9]+")
_CONTINUED = re.compile(r"(?:[ \t\n\r\f\v]|--[^\r\n]*[\r\n])*'")
_DOLLAR = re.compile(r"\$([A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$")


class Refused(Exception):
    """A query that is not run; the text says why, as what follows "the query"."""


class Token(NamedTuple):
    """A part of a query: a word (as PostgreSQL folds it), a name in quotes, a literal, or a single character."""

    kind: str  # word, name, literal, mark
    text: str


def check_sqlite(query: str) -> None:
    """Refused where a query cannot be one SELECT or WITH; SQLite itself takes no second statement."""
    _check_size(query)
    first = _SQLITE_LEAD.match(query)
    _check_lead(first.group(1) if first is not None else "")


def check_postgresql(query: str) -> None:
    """Refused where a query is not one SELECT or WITH that calls nothing but what is known to compute."""
    _check_size(query)
    tokens = list(_tokens(query))
    _check_lead(tokens[0].text if tokens and tokens[0].kind == "word" else "")
    ends = [n for n, token in enumerate(tokens) if token == _END]
    if ends and ends[0] != len(tokens) - 1:
        raise Refused("holds more than one statement")
    if Token("mark", "$") in tokens:
        raise Refused("has parameters ($1), and nothing to put there")
    for name in _called(tokens):
        if name not in POSTGRESQL_FUNCTIONS:
            raise Refused(f"calls {name[:80]}(), which is not among the functions that may be called here")


def _check_size(query: str) -> None:
    if len(query) > LONGEST:
        raise Refused(f"has more than {LONGEST:,} characters")
    if "\0" in query:
        raise Refused("holds a NUL character")
    if not query.isascii():
        try:
            query.encode()
        except UnicodeEncodeError:
            raise Refused("is not UTF-8") from None


def _check_lead(word: str) -> None:
    if word.lower() not in {"select", "with"}:  # upper() takes a long s for an S, which no database does
        raise Refused("is not one SELECT or WITH: here one can only read")


# PostgreSQL's tokens --------------------------------------------------------------------------------------------------
_END = Token("mark", ";")
_OPEN = Token("mark", "(")
_DOT = Token("mark", ".")


def _tokens(query: str) -> Iterator[Token]:
    """Yield the tokens of a query as PostgreSQL cuts it with standard_conforming_strings on. Refused: it never ends."""
    at = 0
    while at < len(query):
        if blank := _BLANK.match(query, at):
            at = blank.end()
        elif query.startswith("/*", at):
            at = _behind_comment(query, at)
        elif query[at] == "'":
            at = _behind_quoted(query, at, "'")
            yield Token("literal", "")
        elif query[at] == '"':
            end = _behind_quoted(query, at, '"')
            yield Token("name", query[at + 1 : end - 1].replace('""', '"'))
            at = end
        elif dollar := _DOLLAR.match(query, at):
            end = query.find(dollar.group(), dollar.end())
            if end < 0:
                raise Refused("holds a text that does not end")
            at = end + len(dollar.group())
            yield Token("literal", "")
        elif word := _WORD.match(query, at):
            at = word.end()
            text = word.group()
            if at < len(query) and query[at] == "'" and text.upper() in {"E", "B", "X", "N"}:
                escapes = text.upper() == "E"
                at = _behind_quoted(query, at, "'", escapes=escapes)
                if escapes and _CONTINUED.match(query, at):  # escapes would go on in a part that does not say so
                    raise Refused("holds a text E'...' that goes on in another line: write it in one")
                yield Token("literal", "")
            elif text.upper() == "U" and re.match(r"&\s*['\"]", query[at : at + 2]):
                raise Refused("holds U&, escapes of Unicode: write the characters themselves")
            else:
                yield Token("word", _folded(text))
        elif digits := _DIGITS.match(query, at):  # what follows them is a word: older servers see it so
            at = digits.end()
            yield Token("literal", "")
        else:
            yield Token("mark", query[at])
            at += 1


def _folded(word: str) -> str:
    """Return a word as PostgreSQL folds it, as far as our lists of names go: these are ASCII."""
    return word.lower() if word.isascii() else word


def _behind_comment(query: str, at: int) -> int:
    depth = 0
    for edge in _COMMENT_EDGE.finditer(query, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise Refused("holds a comment that does not end")


def _behind_quoted(query: str, at: int, quote: str, *, escapes: bool = False) -> int:
    at += 1
    while at < len(query):
        if query.startswith(quote * 2, at) or (escapes and query[at] == "\\"):
            at += 2
        elif query[at] == quote:
            return at + 1
        else:
            at += 1
    raise Refused("holds a text or name that does not end")


def _called(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield what is called as a function: names before a parenthesis that neither syntax nor an alias explains."""
    for n, token in enumerate(tokens[:-1]):
        if token.kind not in {"word", "name"} or tokens[n + 1] != _OPEN:
            continue
        before = tokens[n - 1] if n else _END
        if before == _DOT:
            schema = tokens[n - 2].text if n > 1 else ""
            name = (
                token.text if schema == "pg_catalog" and (n < 3 or tokens[n - 3] != _DOT) else f"{schema}.{token.text}"
            )
            yield name
        elif before == Token("word", "as"):  # an alias with columns, or a type with its size: no call stands there
            continue
        elif not (token.kind == "word" and token.text in SYNTAX) and not _defines(tokens, n):
            yield token.text


def _defines(tokens: Sequence[Token], n: int) -> bool:
    """Tell whether `name(columns) AS (SELECT` begins at a token: a query of a WITH.

    `name(columns) AS (column type` would be a call, with what it returns.
    """
    at = n + 2
    while at < len(tokens) and (tokens[at].kind in {"word", "name"} or tokens[at] == Token("mark", ",")):
        at += 1
    rest = [token.text if token.kind in {"word", "mark"} else '"' for token in tokens[at : at + 7]]
    if rest[:2] != [")", "as"]:
        return False
    rest = rest[2:]
    if rest[:1] == ["not"]:
        rest = rest[1:]
    if rest[:1] == ["materialized"]:
        rest = rest[1:]
    return rest[:1] == ["("] and (rest[1:2] in (["select"], ["with"], ["("]) or rest[1:3] == ["values", "("])


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SYNTAX = _words(
    """
    all and any array as between bit by case cast char character coalesce cross cube dec decimal distinct else except
    exists extract fetch filter first float from full greatest group grouping having ilike in inner intersect interval
    is isnull join last lateral least left like limit materialized natural next not notnull nullif numeric offset on
    only or order outer over overlay partition position right rollup row select sets similar some substring symmetric
    then time timestamp to trim union using values varchar varying when where with within zone
    """
)
"""Words before a parenthesis that call nothing, or what the grammar itself computes."""

POSTGRESQL_FUNCTIONS = _words(
    """
    abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos cosd cosh cot cotd
    degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log log10 mod pi pow power radians random
    random_normal round scale sign sin sind sinh sqrt tan tand tanh trim_scale trunc min_scale width_bucket

    ascii bit_length btrim casefold char char_length character_length chr concat concat_ws convert convert_from
    convert_to decode encode format initcap left length lower lpad ltrim md5 normalize octet_length overlay position
    quote_ident quote_literal quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_matches
    regexp_replace regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right rpad rtrim
    split_part starts_with string_to_array string_to_table strpos substr substring text to_ascii to_bin to_hex to_oct
    translate trim unistr upper varchar bpchar name

    bit_count crc32 crc32c get_bit get_byte set_bit set_byte sha224 sha256 sha384 sha512

    age clock_timestamp date date_add date_bin date_part date_subtract date_trunc extract isfinite justify_days
    justify_hours justify_interval make_date make_interval make_time make_timestamp make_timestamptz now
    statement_timestamp time timeofday timestamp timestamptz timezone to_char to_date to_number to_timestamp
    transaction_timestamp

    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every json_agg
    json_object_agg jsonb_agg jsonb_object_agg max min mode percentile_cont percentile_disc regr_avgx regr_avgy
    regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev stddev_pop stddev_samp string_agg
    sum var_pop var_samp variance

    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number

    array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions
    array_prepend array_remove array_replace array_reverse array_sample array_shuffle array_sort array_to_json
    array_to_string array_upper cardinality generate_series generate_subscripts trim_array unnest

    json json_array json_array_elements json_array_elements_text json_array_length json_arrayagg json_build_array
    json_build_object json_each json_each_text json_exists json_extract_path json_extract_path_text json_object
    json_object_keys json_objectagg json_populate_record json_query json_scalar json_serialize json_strip_nulls
    json_to_record json_to_recordset json_typeof json_value jsonb jsonb_array_elements jsonb_array_elements_text
    jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path
    jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_match
    jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_populate_record jsonb_pretty jsonb_set
    jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json to_jsonb

    isempty lower_inc lower_inf numrange int4range int8range range_agg range_merge tsrange tstzrange daterange upper_inc
    upper_inf

    bool boolean bigint bytea double float4 float8 int int2 int4 int8 integer interval numeric real smallint uuid

    col_description current_catalog current_database current_schema current_schemas current_user format_type
    num_nonnulls num_nulls obj_description pg_column_compression pg_column_size pg_database_size pg_get_constraintdef
    pg_get_indexdef pg_get_viewdef pg_indexes_size pg_relation_size pg_size_bytes pg_size_pretty pg_table_size
    pg_total_relation_size pg_typeof session_user to_regclass to_regtype version
    """
)
"""Functions of PostgreSQL that only compute, or tell what the role may see anyway."""
