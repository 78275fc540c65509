"""Connects to the first address that answers, and says whose fault it is when none does."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import aiohappyeyeballs

from worker.errors import ProbeError, translate
from worker.words import Reason

IPAddress = IPv4Address | IPv6Address

STAGGER_SECONDS = 0.25
"""RFC 8305's delay between two attempts to connect."""
MAX_ADDRESSES = 5
"""Of each family; a name with thousands would make the worker knock at each of them."""
_ELSEWHERE = ("2001:db8::1", "192.0.2.1")
"""Addresses for documentation (RFC 3849, 5737): asking for a route to them sends nothing."""
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_WEIGHT = (
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
)
"""What somebody has answered goes before what nobody has."""
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


async def open_first(
    addresses: Sequence[IPAddress], port: int, connection: asyncio.Protocol
) -> None:
    """Connect to the first address that answers, both families in turn (RFC 8305).

    Raises:
        ProbeError: why none does.
    """
    loop = asyncio.get_running_loop()
    addresses = [*_some(addresses, 6), *_some(addresses, 4)]
    try:
        if len(addresses) == 1:
            await loop.create_connection(lambda: connection, str(addresses[0]), port)
            return
        winner = await aiohappyeyeballs.start_connection(
            [_info(address, port) for address in addresses],
            happy_eyeballs_delay=STAGGER_SECONDS,
            interleave=1,
        )
        try:
            await loop.create_connection(lambda: connection, sock=winner)
        except BaseException:
            winner.close()
            raise
    except OSError as error:
        raise blame(_weightiest(error)) from None


def _some(addresses: Sequence[IPAddress], version: int) -> Sequence[IPAddress]:
    return [address for address in addresses if address.version == version][:MAX_ADDRESSES]


def _weightiest(error: OSError) -> OSError:
    """Pick of several addresses' faults the one that says most; the race tells them as text."""
    numbers = set(map(int, _ERRNO.findall(str(error)))) if error.errno is None else ()
    chosen = next((number for number in _WEIGHT if number in numbers), None)
    return error if chosen is None else OSError(chosen, "several addresses, none answers")


def _info(address: IPAddress, port: int) -> aiohappyeyeballs.AddrInfoType:
    end = (str(address), port, 0, 0) if isinstance(address, IPv6Address) else (str(address), port)
    return (_FAMILIES[address.version], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", end)


def blame(error: BaseException) -> ProbeError:
    """Translate, and take the blame where the worker itself has no way out."""
    fault = translate(error, ())
    if fault is None:
        return ProbeError(Reason.UNREACHABLE, "no connection to any of its addresses")
    if getattr(error, "errno", None) == errno.ENETUNREACH and not _has_a_route():
        return ProbeError(Reason.INTERNAL, "the worker's network is down")
    return fault


def _has_a_route() -> bool:
    for text in _ELSEWHERE:
        address: IPAddress = ip_address(text)
        with socket.socket(_FAMILIES[address.version], socket.SOCK_DGRAM) as asking:
            try:
                asking.connect((text, 9))
            except OSError:
                continue
            return True
    return False
