"""The words that a profile and a route share: a profile sets each switch, a route may set it otherwise.

What each reading means is in the README's table of switches; the evidence for the defaults in each profile.
"""

import re
from typing import Final

from proxy.shape import Choice, Flag, Key, Parsed, Record, Table, Text, Whole

TIME_FORMATS: Final = ("iso_offset_s", "iso_offset_ms", "iso_z_s", "iso_z_ms", "epoch_s", "epoch_ms")
_STRFTIME: Final = re.compile(r"strftime:(?=.*%[YymdjHIMSf])(?:[ -$&-~]|%[YymdjHIMSfpzaAbBuwGV%])+")
"""What is the same on every machine: no %s, which is of the machine's zone, no %c, no line breaks by %n."""
HEADER_NAME: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"


def time_format(text: str) -> str:
    if text in TIME_FORMATS or _STRFTIME.fullmatch(text):
        return text
    raise ValueError(f"unknown time format (known: {', '.join(TIME_FORMATS)}, strftime: with %Y %m %d %H %M %S)")


def header_table(what: str) -> Table:
    return Table(Text(r"[ -~]*", what), HEADER_NAME, "a header name")


_FRAMING: Final = frozenset(
    "host content-length transfer-encoding connection keep-alive te trailer upgrade expect".split()
)
"""They follow from the upstream and the body that is sent; written by hand they would break the request."""


def _route_headers(**tables: dict[str, str]) -> dict[str, dict[str, str]]:
    if any(name.lower() in _FRAMING for table in tables.values() for name in table):
        raise ValueError(f"must not name a header that frames the request ({', '.join(sorted(_FRAMING))})")
    return tables


EXTERNAL_ID: Final = Record(
    {
        "header": Key(Text(HEADER_NAME, "a header name"), "the header that carries it; default: X-EXTERNAL-ID"),
        "format": Key(Choice(("digits", "uuid")), "what Paraf makes when the caller sends none"),
        "length": Key(Whole(8, 36), "how many digits"),
        "prefix": Key(Text(r"[0-9A-Za-z_-]{1,28}", "at most 28 letters, digits, - or _"), "text in front of that"),
        "on_repeat": Key(Choice(("same", "new")), "after a refused token: the same again, or a new one"),
    }
)

SWITCHES: Final[dict[str, Key]] = {
    "canonical": Key(Choice(("raw", "minify", "sorted")), "the body that is digested or signed"),
    "forward": Key(Choice(("canonical", "original")), "the body that is sent"),
    "invalid_json": Key(Choice(("raw", "reject")), "what becomes of a body that is not JSON"),
    "sign_path": Key(
        Choice(("path", "path_and_query", "full_url", "sorted_query")), "the part of the URL that is signed"
    ),
    "strip_base_path": Key(Flag(), "leave the path of the upstream's base out of the signature"),
    "method_case": Key(Choice(("upper", "lower")), "the method as it stands in the string-to-sign"),
    "token_separator": Key(Text(r"[!-~]", "one character"), "between client id and time in the token's string-to-sign"),
    "digest_for": Key(
        Choice(("by_method", "by_body")), "whether a digest is signed: by method, or by there being a body"
    ),
    "timestamp": Key(
        Parsed(time_format, "a time format"), "the form of the time, one reading for header and signature"
    ),
    "signature": Key(Text(r"[a-z][a-z_]*", "the name of a scheme of the profile"), "the scheme that signs calls"),
    "string": Key(Text(), "template of the string-to-sign, instead of the scheme's own"),
    "key": Key(Text(), "template of the HMAC key, instead of the scheme's own"),
    "constants": Key(Table(Text(r"[ -~]+", "printable text")), "named texts for templates, such as partner_id"),
    "headers": Key(
        Record(
            {
                "set": Key(header_table("printable ASCII text"), "headers that Paraf always sets", default={}),
                "default": Key(
                    header_table("printable ASCII text"),
                    "headers that Paraf sets when the caller sends none",
                    default={},
                ),
            },
            _route_headers,
        ),
        "headers beside the scheme's own",
    ),
    "external_id": Key(EXTERNAL_ID, "the id that the provider wants to be unique in a day"),
}
