"""The mask shows no secret, and is the same in SQL and in Python."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.postgresql import PostgreSQLServer
from worker.connection import mask

CASES = json.loads(Path(__file__).with_name("mask_cases.json").read_text(encoding="utf-8"))
# What a password could be taken for: every separator of a URL, blanks, letters that fold oddly.
HOSTILE = st.text(
    st.one_of(
        st.sampled_from("@:/%#?&=;,.[]*'\"\\ \t\n\u00a0\u2003\u212a\u0131\u017f\u00e90aZ"),
        st.characters(codec="utf-8", exclude_characters="\0"),
    ),
    max_size=24,
)
NAMES = st.sampled_from(["w", "appName", "password", "sslmode", "db", "tlsCAFile", "\u212a", ""])


@st.composite
def connection_strings(draw: st.DrawFn) -> str:
    if draw(st.booleans()):
        return draw(HOSTILE) + draw(st.sampled_from(["", "://", "redis://"])) + draw(HOSTILE)
    query = "&".join(
        f"{name}{draw(st.sampled_from(['=', '==', '']))}{draw(HOSTILE)}"
        for name in draw(st.lists(NAMES, max_size=3))
    )
    host = draw(st.one_of(HOSTILE, st.sampled_from(["h", "h:1", "h:1,i", "[::1]:1", ""])))
    user = draw(st.one_of(st.just(""), st.just("u:p@"), HOSTILE.map(lambda text: f"{text}@")))
    return f"redis://{user}{host}{draw(st.sampled_from(['', '/', '/0', '?', '#']))}?{query}"


async def masked_by_sql(url: str, texts: list[str]) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select platform.mask_connection_string(clear) as mask"
            " from unnest($1::text[]) with ordinality as t (clear, i) order by i",
            texts,
        )
    finally:
        await connection.close()
    return [row["mask"] for row in rows]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_python_masks_as_the_table_says(case: dict[str, str]) -> None:
    assert mask(case["clear"]) == case["mask"]
    assert "secret" not in mask(case["clear"])


async def test_sql_masks_as_the_table_says(registry_url: str) -> None:
    masks = await masked_by_sql(registry_url, [case["clear"] for case in CASES])
    assert dict(zip((c["name"] for c in CASES), masks, strict=True)) == {
        case["name"]: case["mask"] for case in CASES
    }


async def test_what_is_too_long_for_a_url_is_masked_whole(registry_url: str) -> None:
    long = "redis://u:secret@h?" + "w=1&" * 5000
    assert mask(long) == "redis://***"
    assert await masked_by_sql(registry_url, [long]) == ["redis://***"]


async def test_null_stays_null(owner: Any) -> None:
    assert await owner.fetchval("select platform.mask_connection_string(null)") is None


@settings(max_examples=12, deadline=None)
@given(texts=st.lists(connection_strings(), min_size=1, max_size=200))
def test_sql_and_python_agree_on_whatever_text(
    cluster: PostgreSQLServer, registry_template: str, texts: list[str]
) -> None:
    url = cluster.url(database=registry_template)
    assert asyncio.run(masked_by_sql(url, texts)) == [mask(text) for text in texts]


PLACES = {
    "user info": "mongodb://u:SECRET@h1:1,h2/db?w=1&appName=@x@",
    "option": "mongodb://u@h1:1,h2/db?w=1&password=SECRET&sslmode=require",
}


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=400, deadline=None)
@given(password=HOSTILE)
def test_the_mask_never_shows_the_password(place: str, password: str) -> None:
    if place == "option":
        password = password.replace("&", "")  # in clear it begins another option
    marked = f"canary{password}canary"
    assert "canary" not in mask(PLACES[place].replace("SECRET", marked))
    encoded = mask(PLACES[place].replace("SECRET", quote(marked, safe="")))
    assert encoded == PLACES[place].replace("SECRET", "***")
