"""Functions on names, addresses, telephone numbers and countries."""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import phonenumbers
import pycountry

from mappings.errors import EvaluationError
from mappings.functions.text import empty, null_or_refused

# What people write and ISO 3166 does not list.
_ALSO = {
    "uk": "GB", "u.k.": "GB", "great britain": "GB", "england": "GB", "scotland": "GB",
    "wales": "GB", "northern ireland": "GB", "u.s.": "US", "u.s.a.": "US", "america": "US",
    "the netherlands": "NL", "holland": "NL", "czech republic": "CZ", "turkey": "TR",
    "russia": "RU", "south korea": "KR", "north korea": "KP", "ivory coast": "CI", "uae": "AE",
    "macedonia": "MK", "swaziland": "SZ", "cape verde": "CV", "burma": "MM", "brunei": "BN",
    "laos": "LA", "palestine": "PS", "vatican": "VA", "syria": "SY", "kosovo": "XK",
}  # fmt: skip


def bind_split_name(part: str) -> Callable[[Any], str | None]:
    """`"last"`: the last word of a name; `"first"`: all before it."""
    if part not in ("first", "last"):
        raise ValueError('part of split_name must be "first" or "last"')

    def split_name(name: Any) -> str | None:
        if name.__class__ is not str:
            return null_or_refused("split_name", name)
        words = name.split()
        if part == "first":
            return " ".join(words[:-1]) or None
        return words[-1] if words else None

    return split_name


def email_normalise(address: Any) -> str | None:
    """Small letters, without blanks at both ends. Whether it is an address, the platform says."""
    if address.__class__ is str:
        return address.strip().lower()
    return null_or_refused("email_normalise", address)


def email_domain(address: Any) -> str | None:
    """What stands after the last @, in small letters; null where there is none."""
    if address.__class__ is not str:
        return null_or_refused("email_domain", address)
    return address.rpartition("@")[2].strip().lower() or None if "@" in address else None


@cache
def _codes() -> dict[str, str]:
    """Names and codes of countries, in small letters, to ISO 3166 alpha-2."""
    found: dict[str, str] = {}
    for country in pycountry.countries:
        for name in ("name", "official_name", "common_name", "alpha_2", "alpha_3"):
            if text := getattr(country, name, None):
                found[str(text).casefold()] = str(country.alpha_2)
    return {**_ALSO, **found}


def _country(name: str, value: Any) -> str | None:
    """Raises EvaluationError for a country that nobody knows."""
    if value.__class__ is not str:
        return null_or_refused(name, value)
    text = value.strip().casefold()
    if not text:
        return None
    code = _codes().get(text)
    if code is None:
        raise EvaluationError("is no country, by English name or ISO code")
    return code


def country_code(country: Any) -> str | None:
    """ISO 3166 alpha-2 of a code or an English name; blank is null, an unknown one an error."""
    return _country("country_code", country)


def country_name(country: Any) -> str | None:
    """English name of a code or a name; blank is null, an unknown one an error."""
    code = _country("country_name", country)
    if code is None:
        return None
    known: Any = pycountry.countries.get(alpha_2=code)
    return "Kosovo" if known is None else str(getattr(known, "common_name", known.name))


@lru_cache(4_096)  # the same contact is often mapped for two destinations in a row
def _phone(text: str, region: str | None) -> str:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise EvaluationError("is no telephone number") from None
    if not phonenumbers.is_valid_number(number):
        raise EvaluationError("is no valid telephone number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def phone_e164(number: Any, country: Any) -> str | None:
    """`+49301234567`. Without a + the country is needed, by code or English name; blank is null.

    A number that is not valid is an error.
    """
    if number.__class__ is not str:
        return null_or_refused("phone_e164", number)
    text = number.strip()
    if not text:
        return None
    if text.startswith("+"):
        return _phone(text, None)
    if empty(country):
        raise EvaluationError("needs a country, as the number has no +")
    return _phone(text, _country("phone_e164", country))
