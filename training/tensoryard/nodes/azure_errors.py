"""Azure's refusals in a few words: what is lacking, how much of it there is, and what is worth a second try."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tensoryard.nodes import Problem

# Codes: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-sku-not-available,
# .../error-resource-quota, https://learn.microsoft.com/azure/virtual-machines/error-codes-spot and
# https://learn.microsoft.com/troubleshoot/azure/virtual-machines/windows/allocation-failure.
_NO_ROOM = {
    "allocationfailed": "Azure has no room for more of this size here",
    "zonalallocationfailed": "Azure has no room for more of this size in the zone",
    "overconstrainedallocationrequest": "Azure has no machine that fits all that the nodes ask for",
    "overconstrainedzonalallocationrequest": "Azure has no machine in the zone that fits all that the nodes ask for",
    "skunotavailable": "Azure does not offer this size here now",
    "evictedbyspot": "Azure took the Spot machine away",
    "azurespotvmnotsupportedinavailabilityset": "Azure has no Spot machine of this kind",
}
_QUOTA = ("quotaexceeded", "operationnotallowed", "spotquotaexceeded")
# Another change of the same set is on its way, or came after ours: what it made shows in the list.
_BESIDE = {"operationpreempted", "anotheroperationinprogress", "conflict", "canceled", "preempted", "retryableerror"}
_THROTTLED = ("toomanyrequests", "operationthrottled", "throttled", "subscriptionrequeststhrottled")
_NUMBERS = re.compile(
    r"exceeding approved (?P<name>.+?) quota.*?"
    r"Current Limit: (?P<limit>\d+), Current Usage: (?P<used>\d+), Additional Required: (?P<more>\d+)",
    re.DOTALL,
)
_OLD_NUMBERS = re.compile(
    r"quota limits of (?P<name>\w+)\. Maximum allowed: (?P<limit>\d+), Current in use: (?P<used>\d+), "
    r"Additional requested: (?P<more>\d+)"
)
_LONGEST = 200


def explain(error: Exception) -> Problem:
    """
    What an exception of Azure's client means for the nodes that were asked for.

    The innermost error that is known decides: outer ones say no more than that something failed.
    """
    status = getattr(error, "status_code", None)
    if status == 429:
        return _throttled(error)
    said = list(_errors(error))
    for code, message in reversed(said):
        known = _known(code, message)
        if known is not None:
            return known
    code, message = said[-1]
    if status in (401, 403) or code.lower() in ("authorizationfailed", "linkedauthorizationfailed"):
        return Problem("refused", f"Azure refuses it to the head's identity: {_short(message)}")
    return Problem("other", _short(f"{code}: {message}" if code else message))


def is_beside(error: Exception) -> bool:
    """Another change of the same thing was in the way: the next look shows what came of it."""
    if explain(error).kind in ("quota", "capacity", "throttled"):
        return False
    return any(code.lower() in _BESIDE or "in progress" in message.lower() for code, message in _errors(error))


def _known(code: str, message: str) -> Problem | None:
    lower = code.lower()
    numbers = _NUMBERS.search(message) or _OLD_NUMBERS.search(message)
    if numbers is not None:
        words = f"quota {_family(numbers['name'])} {numbers['used']} of {numbers['limit']} vCPUs"
        return Problem("quota", f"{words} in use, {numbers['more']} more needed")
    if lower in _QUOTA and "quota" in message.lower():
        return Problem("quota", f"quota: {_short(message)}")
    if lower in _NO_ROOM:
        return Problem("capacity", f"{_NO_ROOM[lower]} ({code})")
    if lower in _THROTTLED:
        return Problem("throttled", "Azure takes no more requests for now")
    return None


def asked_wait_s(error: Exception) -> float | None:
    """Seconds that Azure asks to wait, None when it says nothing of it."""
    response = getattr(error, "response", None)
    after = (response.headers.get("Retry-After") or "") if response is not None else ""
    return float(after) if after.isdigit() else None


def _throttled(error: Exception) -> Problem:
    seconds = asked_wait_s(error)
    wait = f", ask again in {seconds:.0f} s" if seconds is not None else ""
    return Problem("throttled", f"Azure takes no more requests for now{wait}")


def _family(name: str) -> str:
    """The quota's name: `standardNCASv3_T4Family Cores` is NCASv3_T4, as the portal sorts it."""
    found = re.fullmatch(r"standard\s?(\w+?)\s?Family(?: v?C(?:ore|PU)s)?", name.strip(), re.IGNORECASE)
    if found:
        return found[1]
    return "Spot" if "lowprioritycores" in name.lower().replace(" ", "") else name.strip().removesuffix(" Cores")


def _errors(error: Exception) -> Iterator[tuple[str, str]]:
    """(code, message) of an error and of those inside it, outermost first."""
    inner = getattr(error, "error", None)
    if inner is None:
        # An operation that failed: its code is in the text only, `(Code) message`.
        text = str(getattr(error, "message", None) or error)
        found = re.match(r"\((\w+)\) (.*)", text, re.DOTALL)
        yield (found[1], found[2]) if found else ("", text)
        return
    yield from _of_fields(inner if isinstance(inner, Mapping) else _fields(inner))


def _fields(inner: Any) -> dict[str, Any]:
    names = ("code", "message", "details")
    return {name: getattr(inner, name, None) for name in names}


def _of_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield str(fields.get("code") or ""), str(fields.get("message") or "")
    for detail in fields.get("details") or ():
        yield from _of_fields(detail if isinstance(detail, Mapping) else _fields(detail))


def _short(message: str) -> str:
    """The first sentence or so, on one line."""
    line = " ".join(message.split())
    first = line.split(". ")[0]
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}…"
