"""What a request brings, however it is packed, and what is no request at all."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from starlette.datastructures import Headers

from birefnet_runtime.serve.problem import Problem
from birefnet_runtime.serve.upload import File, Upload, parse
from helpers.pictures import disc, encoded

# Every byte, and what looks like a boundary.
DATA = bytes(range(256)) + b"\r\n--line\r\n\r\n--other--"
TEXT = base64.b64encode(DATA).decode()
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def parsed(body: bytes, kind: str = "", query: str = "", **headers: str) -> Upload:
    given = {
        "content-type": kind,
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    return parse(body, Headers(given), query, ("image",))


def multipart(*parts: tuple[str, bytes], end: bytes = b"--bound--\r\n") -> Upload:
    body = b"".join(
        b"--bound\r\nContent-Disposition: form-data; %s\r\n\r\n%s\r\n" % (head.encode(), data)
        for head, data in parts
    )
    return parsed(body + end, "multipart/form-data; boundary=bound")


def refused(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(Problem) as caught:
        call(*args, **kwargs)
    assert caught.value.code == "bad_request"
    return caught.value.message


def test_the_same_picture_in_every_form() -> None:
    file = ('name="image"; filename="a b.png"', DATA)
    found = multipart(file, ('name="crop"', b"true"))
    assert found == Upload("multipart", {"crop": "true"}, {"image": File(DATA, "a b.png")})
    # Text in base64 is a picture in a form, too.
    assert multipart(('name="image"', TEXT.encode())).files["image"].data == DATA
    typed = ('name="image"\r\nContent-Type: image/png', DATA)
    assert multipart(typed).files["image"].data == DATA
    for text in (TEXT, f"data:image/png;base64,{TEXT}", "\r\n".join([TEXT[:76], TEXT[76:]])):
        body = json.dumps({"image": text, "crop": True}).encode()
        found = parsed(body, JSON)
        assert found == Upload("json", {"crop": "true"}, {"image": File(DATA)})
    quoted = TEXT.replace("+", "%2B")
    assert parsed(f"image={quoted}&crop=1".encode(), FORM).files["image"].data == DATA
    for kind in ("image/jpeg", "application/octet-stream", "", "text/plain"):
        assert parsed(DATA, kind) == Upload("raw", raw=File(DATA))
    named = parsed(DATA, "image/png", content_disposition='attachment; filename="a.png"')
    assert named.raw == File(DATA, "a.png")
    assert parsed(b"") == Upload()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_a_picture_under_a_forms_name_is_a_picture(kind: str) -> None:
    # As curl --data-binary @photo.jpg sends it.
    for side in (1, 48):
        data = encoded(disc(side, side), kind)
        assert parsed(data, FORM) == Upload("raw", raw=File(data))


def test_texts() -> None:
    found = parsed(b'{"a": 1, "b": 0.5, "c": false, "d": null, "e": "\\u00fc"}', JSON)
    assert found.fields == {"a": "1", "b": "0.5", "c": "false", "e": "ü"}
    assert parsed(b"a=%C3%BC&b=", FORM).fields == {"a": "ü", "b": ""}
    # The body goes before the query.
    both = parsed(b'{"a": "body"}', JSON, query="a=query&b=query")
    assert both.fields == {"a": "body", "b": "query"}
    # A picture does not come in a query.
    assert parsed(b"", query=f"image={TEXT}").files == {}
    # A browser's form sends a file field that is empty.
    empty = ('name="image"; filename=""\r\nContent-Type: application/octet-stream', b"")
    assert multipart(empty) == Upload("multipart")
    assert multipart().kind == "multipart"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[1]", "no JSON object"),
        (b"7", "no JSON object"),
        (b'{"a": [1]}', "'a' is no text"),
        (b'{"a": {}}', "'a' is no text"),
        (b'{"a": NaN}', "no JSON"),
        (b'{"a": 1', "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'{"image": "?"}', "'image' is no base64"),
        (b'{"image": "YQ"}', "'image' is no base64"),
        (b'{"image": "data:image/png,abc"}', "'image' is no data: URL"),
        (b'{"image": "\xc3\xbc"}', "'image' is no base64"),
        (json.dumps({str(number): 1 for number in range(65)}).encode(), "more than 64 fields"),
        (json.dumps({"a": "b" * 8193}).encode(), "'a' is too long"),
    ],
)
def test_broken_json(body: bytes, says: str) -> None:
    assert says in refused(parsed, body, JSON)


def test_broken_multipart() -> None:
    one = ('name="a"', b"1")
    kind = "multipart/form-data"
    assert "no boundary" in refused(parsed, b"--x--", kind)
    assert "cannot be read" in refused(parsed, b"--x--", f"{kind}; boundary={'x' * 300}")
    assert "cannot be read" in refused(parsed, DATA, f"{kind}; boundary=x")
    assert "ends before" in refused(parsed, b"", f"{kind}; boundary=x")
    assert "ends before" in refused(multipart, one, end=b"")
    assert "ends before" in refused(multipart, one, end=b"--bound")
    assert "without a name" in refused(multipart, ('nam="a"', b"1"))
    assert "'a' is given twice" in refused(multipart, one, one)
    assert "'a' is given twice" in refused(
        multipart, ('name="a"; filename="x"', b"1"), ('name="a"; filename="y"', b"2")
    )
    assert "more than 64 parts" in refused(multipart, *[one] * 65)
    assert "'a' is no text" in refused(multipart, ('name="a"', b"\xff"))
    assert "cannot be read" in refused(multipart, (f'name="{"a" * 5000}"', b"1"))
    many = "\r\n".join(f"X-{number}: 1" for number in range(20))
    assert "cannot be read" in refused(multipart, (f'name="a"\r\n{many}', b"1"))


def test_broken_forms_and_queries() -> None:
    assert "own Content-Type" in refused(parsed, b"abc", FORM)
    assert "'a' is given twice" in refused(parsed, b"a=1&a=2", FORM)
    assert "'a' is given twice" in refused(parsed, b"", query="a=1&a=2")
    assert "The query" in refused(parsed, b"", query="a")
    assert "The query" in refused(parsed, b"", query="a=%ff")
    assert "The query" in refused(parsed, b"", query="&".join(f"a{n}=1" for n in range(65)))


def test_unknown_names_are_named_and_cut_short() -> None:
    upload = Upload(fields={"a": "", "b" * 90: "", "\x1b[31m": ""}, files={"c": File(b"")})
    upload_of_known = Upload(fields={"a": ""}, files={"c": File(b"")})
    upload_of_known.only(("a",), ("c",))
    with pytest.raises(Problem) as caught:
        upload.only(("a",), ("d",))
    assert caught.value.code == "bad_option"
    message = caught.value.message
    assert "'c'" in message and "b" * 41 not in message and "\x1b" not in message
    assert "Known are: a, d." in message
