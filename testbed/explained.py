"""The plans of every statement that runs inside a function of the registry's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

Node = Mapping[str, Any]
"""A node of a plan, as EXPLAIN (ANALYZE, FORMAT JSON) names its keys."""

_SETTINGS = """
load 'auto_explain';
set auto_explain.log_min_duration = 0;
set auto_explain.log_nested_statements = on;
set auto_explain.log_analyze = on;
set auto_explain.log_timing = off;
set auto_explain.log_format = json;
set client_min_messages = log;
"""


@asynccontextmanager
async def explaining(connection: Any) -> AsyncIterator[list[Node]]:
    """Collect the plans of what a superuser's connection runs, inside functions, too."""
    plans: list[Node] = []

    def take(_: object, message: Any) -> None:
        _, found, text = message.message.partition("plan:\n")
        if found:
            plans.append(json.loads(text)["Plan"])

    await connection.execute(_SETTINGS)
    connection.add_log_listener(take)
    try:
        yield plans
    finally:
        connection.remove_log_listener(take)
        await connection.execute("reset client_min_messages; set auto_explain.log_min_duration=-1")


def nodes(plan: Node) -> Iterator[Node]:
    """Walk through a plan, the top first."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def read_whole(plans: list[Node], tables: frozenset[str]) -> list[Node]:
    """List the nodes that read one of these tables from end to end, executed or not."""
    return [
        node
        for plan in plans
        for node in nodes(plan)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in tables
    ]
