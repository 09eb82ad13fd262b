"""What strangers send to harm the service: it says no, and goes on for the others."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import hostile
from helpers.live import PATIENCE, Live, Reply, receive, send, serving
from helpers.pictures import decoded, disc, encoded

PICTURE = encoded(disc())
MAX_BODY = 4 << 20
MAX_PIXELS = 4_000_000
QUEUE = 4
# Seconds within which the head and the body of a request must be there.
HEAD, BODY = 1.0, 1.0
# MiB that the process may grow by in all of this file: pictures of MAX_PIXELS in memory (7 of 4
# slots' and workers' at 4 to 12 bytes a pixel), bodies of the queue, and what malloc keeps of it.
GROWTH = 256
FORM = "multipart/form-data; boundary=cut"


@pytest.fixture(scope="module")
def live(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service that is alive, as small as before and without a fault when all is over."""
    folder = tmp_path_factory.mktemp("live")
    with serving(
        tiny,
        folder,
        limits={"queue": QUEUE},
        max_body=MAX_BODY,
        max_pixels=MAX_PIXELS,
        header_seconds=HEAD,
        body_seconds=BODY,
    ) as service:
        _check_alive(service)
        files, resident = service.files, service.resident
        yield service
        service.settle()
        _check_alive(service)
        log = service.log.read_text()
        assert "Traceback" not in log
        assert not [line for line in log.splitlines() if '"status": 500' in line]
        assert service.resident < resident + GROWTH
        # One for the connection that asks.
        assert service.files <= files + 1


def _check_alive(live: Live) -> None:
    reply = live.post(PICTURE, Content_Type="image/png")
    assert reply.status == 200
    assert decoded(reply.body).shape == (48, 64, 4)


@pytest.mark.parametrize("kind", hostile.TOO_LARGE)
def test_a_size_beyond_the_limit_is_refused_before_it_is_unpacked(live: Live, kind: str) -> None:
    start = time.monotonic()
    reply = live.post(hostile.TOO_LARGE[kind](), Content_Type="application/octet-stream")
    assert (reply.status, reply.code) == (413, "too_large")
    # Unpacking 10 gigapixels would take minutes.
    assert time.monotonic() - start < 5


BOMBS: dict[str, tuple[Callable[[], bytes], int]] = {
    "more data than pixels": (lambda: hostile.png(64, 64, hostile.zeros(512)), 200),
    "a profile": (lambda: _png_with(b"iCCP", b"a\0\0" + hostile.zeros(512)), 415),
    "a text": (lambda: _png_with(b"zTXt", b"a\0\0" + hostile.zeros(512)), 415),
    "a text in UTF-8": (lambda: _png_with(b"iTXt", b"a\0\1\0\0\0" + hostile.zeros(512)), 415),
    "a tile": (lambda: hostile.tile_bomb(32_000, hostile.zeros(1000)), 415),
    "directories": (lambda: hostile.tiff(4, 4, 30_000), 200),
    "a loop of directories": (lambda: hostile.tiff(4, 4, loop=True), 200),
    "frames": (lambda: hostile.gif(16, 16, 100_000), 200),
    "a frame beyond its canvas": (lambda: hostile.gif(1, 1, frame=(60_000, 60_000)), 413),
    "scans": (lambda: hostile.scans(10_000), 415),
    "height below zero": (lambda: hostile.bmp(-60_000, 60_000), 413),
    "no pixels": (lambda: hostile.bmp(0, 1), 415),
    "a side of 2^32 - 1": (lambda: hostile.tiff(2**32 - 1, 1), 413),
    "no data": (lambda: hostile.webp(100, 100), 415),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_does_not_go_off(live: Live, kind: str) -> None:
    make, status = BOMBS[kind]
    data = make()
    resident, start = live.resident, time.monotonic()
    reply = live.post(data, "?foreground=off", Content_Type="application/octet-stream")
    assert reply.status == status, reply.body
    # The smallest of them would be half a GiB, or minutes.
    assert live.resident < resident + 128
    assert time.monotonic() - start < 10


def _png_with(kind: bytes, data: bytes) -> bytes:
    return hostile.png(64, 64, hostile.zeros(0), (kind, data))


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF-3.0\n",
     b"8BPS\0\1" + bytes(60),
     b"SIMPLE  =                    T" + bytes(100), b"II*\0", b"\xff" * 99],
)  # fmt: skip
def test_what_is_no_picture_is_refused_without_a_word_of_the_machine(
    live: Live, body: bytes
) -> None:
    reply = live.post(body, Content_Type="image/png")
    assert reply.status == (415 if body else 400)
    _check_words(reply)


def _check_words(reply: Reply) -> None:
    """An error says what to do, and nothing of addresses, paths or types of ours."""
    text = reply.body.decode()
    for word in ("0x", "/work", "/tmp", ".py", "Error", "<_io", "Traceback"):
        assert word not in text
    assert reply.headers["x-request-id"] in text


def test_a_body_beyond_the_limit_is_refused_by_its_length_or_as_it_comes(live: Live) -> None:
    head = b"POST /v1/remove HTTP/1.1\r\nHost: HOST\r\nContent-Length: %d\r\n\r\n"
    for length in (MAX_BODY + 1, 10**12, 10**19):
        # Not a byte of it is waited for.
        reply = live.raw(head % length)
        assert reply is not None
        assert (reply.status, reply.code) == (413, "too_large")
    pieces = (b"x" * (64 << 10) for _ in range(MAX_BODY // (64 << 10) + 1))
    reply = live.post(pieces, Content_Type="image/png")
    assert (reply.status, reply.code) == (413, "too_large")
    assert live.post(b"x" * MAX_BODY, Content_Type="image/png").status == 415


@pytest.mark.parametrize(
    "path", ["/v1/remove", "/remove_background", "/v1.0/removebg", "/api/remove"]
)
def test_a_body_that_comes_by_the_byte_is_given_up(live: Live, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: HOST\r\nContent-Type: image/png\r\n"
    with live.connect() as connection:
        send(connection, [head.encode() + b"Content-Length: 1000\r\n\r\n"], live.port)
        start = time.monotonic()
        threading.Thread(target=_dribble, args=(connection,), daemon=True).start()
        reply = receive(connection)
    assert reply is not None
    assert reply.status == 408
    # The limit, and how long a busy machine may take to keep it.
    assert BODY * 0.9 < time.monotonic() - start < BODY + 5


@pytest.mark.parametrize("start", [b"", b"G", b"GET /v1/info HTTP/1.1\r\nHost: HOST\r\nA: b"])
def test_a_head_that_comes_by_the_byte_is_given_up(live: Live, start: bytes) -> None:
    with live.connect() as connection:
        begun = time.monotonic()
        send(connection, [start], live.port)
        if start:
            threading.Thread(target=_dribble, args=(connection,), daemon=True).start()
        assert receive(connection) is None
    assert time.monotonic() - begun < HEAD + 5


def _dribble(connection: socket.socket) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            connection.sendall(b"x")
        except OSError:
            return
        time.sleep(0.05)


HEADS = {
    "one long field": b"A: " + b"b" * 200_000,
    "thousands of fields": b"\r\n".join(b"A%d: b" % number for number in range(10_000)),
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4",
    "a length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    "chunks of an unknown kind": b"Transfer-Encoding: gzip, chunked",
    "a length below zero": b"Content-Length: -1",
    "a length with a sign": b"Content-Length: +3",
    "a length in hexadecimal": b"Content-Length: 0x3",
    "a length of 200 digits": b"Content-Length: " + b"9" * 200,
    "a field without a name": b": b",
    "a blank before the colon": b"A : b",
    "a field with a zero": b"A: \0",
    "a second host": b"Host: example.org",
    "no colon": b"nothing",
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_that_is_no_head_is_refused(live: Live, kind: str) -> None:
    start = b"POST /v1/remove HTTP/1.1\r\nHost: HOST\r\n"
    # What follows would be a request of its own if a length were misread.
    reply = live.raw(start + HEADS[kind] + b"\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
    # The answer may be lost where the server closes before it has read all.
    assert reply is None or reply.status in (400, 413, 431)


@pytest.mark.parametrize(
    "line",
    [b"", b"GET", b"GET /", b"PRI * HTTP/2.0", b"GET / / HTTP/1.1", b"\x16\x03\1\2\0",
     b"GET http://example.org/ HTTP/1.1", b"CONNECT example.org:80 HTTP/1.1", b"G\0T / HTTP/1.1",
     b"GET /\xff HTTP/1.1", b"X" * 9000 + b" / HTTP/1.1", b"GET /" + b"a" * 99_000 + b" HTTP/1.1"],
)  # fmt: skip
def test_a_line_that_is_no_request_is_refused(live: Live, line: bytes) -> None:
    reply = live.raw(line + b"\r\nHost: HOST\r\n\r\n")
    assert reply is None or 400 <= reply.status < 500


@pytest.mark.parametrize("size", [b"-1", b"g", b"fffffffffffffffffffff", b"5;" + b"a" * 99_999])
def test_a_chunk_of_no_size_is_refused(live: Live, size: bytes) -> None:
    head = b"POST /v1/remove HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = live.raw(head, size + b"\r\nabc")
    # 408 where only the chunk's extension is long, and its data never come.
    assert reply is None or reply.status in (400, 408)


def _part(name: bytes = b"image", data: bytes = PICTURE, more: bytes = b"") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"; filename="a.png"%s' % (name, more)
    return b"--cut\r\n%s\r\n\r\n%s\r\n" % (disposition, data)


END = b"--cut--\r\n"
FORMS: dict[str, tuple[bytes, str, int]] = {
    "as it should be": (_part() + END, FORM, 200),
    "a name beyond ASCII": (_part(more=b"; filename*=utf-8''%C3%A4%0d%0aX-A: b") + END, FORM, 200),
    "no boundary": (_part() + END, "multipart/form-data", 400),
    "an empty boundary": (_part() + END, 'multipart/form-data; boundary=""', 400),
    "another boundary": (_part() + END, "multipart/form-data; boundary=other", 400),
    "an endless boundary": (_part() + END, "multipart/form-data; boundary=" + "b" * 9000, 400),
    "a boundary beyond ASCII": (_part() + END, "multipart/form-data; boundary=\xe4", 400),
    "no end": (_part(), FORM, 400),
    "half of it": ((_part() + END)[: len(PICTURE) // 2], FORM, 400),
    "nothing": (b"", FORM, 400),
    "an end alone": (END, FORM, 400),
    "no name": (b"--cut\r\nContent-Disposition: form-data\r\n\r\na\r\n" + END, FORM, 400),
    "no disposition": (b"--cut\r\n\r\na\r\n" + END, FORM, 400),
    "a name that is no text": (_part(b"\xff\xfe") + END, FORM, 400),
    "the picture twice": (_part() * 2 + END, FORM, 400),
    "a thousand pictures": (_part(data=b"a") * 1000 + END, FORM, 400),
    "ten thousand parts": (b"--cut\r\n" * 10_000 + END, FORM, 400),
    "a thousand fields": (
        b"".join(
            b'--cut\r\nContent-Disposition: form-data; name="a%d"\r\n\r\nb\r\n' % number
            for number in range(1000)
        )
        + END,
        FORM,
        400,
    ),
    "a field of a megabyte": (
        b'--cut\r\nContent-Disposition: form-data; name="size"\r\n\r\n%s\r\n' % (b"1" * (1 << 20))
        + _part()
        + END,
        FORM,
        400,
    ),
    "a field's name of a megabyte": (_part(b"a" * (1 << 20)) + END, FORM, 400),
    "a field that is no text": (
        b'--cut\r\nContent-Disposition: form-data; name="size"\r\n\r\n\xff\r\n' + _part() + END,
        FORM,
        400,
    ),
    "thousands of headers": (
        b"--cut\r\n" + b"A: b\r\n" * 10_000 + b"\r\na\r\n" + END,
        FORM,
        400,
    ),
    "a form in a form": (
        b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
        b"Content-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\na\r\n--in--\r\n" + END,
        FORM,
        415,
    ),
    "another charset": (_part() + END, FORM + "; charset=utf-7", 200),
    "not a type": (PICTURE, "image/png; boundary", 200),
    "a type that is none": (PICTURE, ";;;=,\x7f", 200),
    "a form that is none": (b"%zz&=&&%ff", "application/x-www-form-urlencoded", 400),
    "a form of bytes": (b"\xff\0%zz&=&&", "application/x-www-form-urlencoded", 415),
    "a form of many fields": (b"a=b&" * 100_000, "application/x-www-form-urlencoded", 400),
}


@pytest.mark.parametrize("kind", FORMS)
def test_broken_forms_are_refused(live: Live, kind: str) -> None:
    body, form, status = FORMS[kind]
    reply = live.post(body, Content_Type=form)
    assert reply.status == status, reply.body
    if status != 200:
        _check_words(reply)


TEXT = base64.b64encode(PICTURE).decode()
JSON: dict[str, tuple[bytes | object, int]] = {
    "as it should be": ({"image": TEXT}, 200),
    "a data URL": ({"image": "data:image/png;base64," + TEXT}, 200),
    "depth": (b'{"image":' * 100_000, 400),
    "depth of lists": (b"[" * 1_000_000, 400),
    "depth that ends": (b'{"image": %s}' % (b"[" * 500 + b"]" * 500), 400),
    "a list": ([TEXT], 400),
    "pairs": ([["image", TEXT]], 400),
    "a text": (TEXT, 400),
    "null": (b"null", 400),
    "nothing": (b"", 400),
    "half of it": (b'{"image": "', 400),
    "more than one": (b"{}{}", 400),
    "UTF-16": (json.dumps({"image": TEXT}).encode("utf-16"), 400),
    "no text": (b'{"image": "\xff"}', 400),
    "not a number": (b'{"image": "%s", "feather": NaN}' % TEXT.encode(), 400),
    "infinity": (b'{"image": "%s", "feather": 1e999}' % TEXT.encode(), 400),
    "a number of a megabyte": (b'{"image": "a", "offset": %s}' % (b"9" * (1 << 20)), 400),
    "a number as picture": ({"image": 5}, 400),
    "an object as picture": ({"image": {"a": TEXT}}, 400),
    "null as picture": ({"image": None}, 400),
    "true as picture": ({"image": True}, 415),
    "no base64": ({"image": "*" * 100}, 400),
    "base64 of no picture": ({"image": "AAAA"}, 415),
    "base64 beyond ASCII": ({"image": "\u0661" * 8}, 400),
    "half a character": (b'{"image": "\\ud800"}', 400),
    "half a character in a field": (
        b'{"image": "%s", "background": "\\ud800"}' % TEXT.encode(),
        400,
    ),
    "half a character in a margin": (b'{"image": "%s", "margin": "\\ud800"}' % TEXT.encode(), 400),
    "half a character in a name": (b'{"image": "%s", "\\ud800": "a"}' % TEXT.encode(), 400),
    "a data URL without data": ({"image": "data:,"}, 400),
    "a file's URL": ({"image": "file:///etc/passwd"}, 400),
    "the same twice": (b'{"image": "%s", "image": "AAAA"}' % TEXT.encode(), 400),
    "many names": ({str(number): "a" for number in range(100_000)}, 400),
}


@pytest.mark.parametrize("kind", JSON)
def test_broken_json_is_refused(live: Live, kind: str) -> None:
    content, status = JSON[kind]
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    reply = live.post(body, Content_Type="application/json")
    assert reply.status == status, reply.body
    if status != 200:
        _check_words(reply)


OPTIONS = [
    "background=/etc/passwd",
    "background=/etc/passwd.png",
    "background=white.png",
    "background=file:///etc/passwd",
    "background=http://127.0.0.1/a.png",
    "background=..%2F..%2Fa.jpg",
    "background=%00",
    "background=rgb(" + "9" * 5000 + ",0,0)",
    "background_image=/etc/passwd",
    "model=/etc/passwd",
    "model=nano",
    "device=cuda",
    "max_pixels=999999999",
    "keep_gps=true",
    "shrink=5",
    "url=http://127.0.0.1/",
    "image=/etc/passwd",
    "format=..%2Fpng",
    "format=exe",
    "output=__class__",
    "crop=maybe",
    "margin=nan",
    "margin=-5",
    "margin=1e300%25",
    "margin=9999999999999999999px&crop=true",
    "feather=inf",
    "feather=1e308",
    "offset=1e30",
    "offset=0.5",
    "levels=0.1",
    "levels=nan,nan",
    "levels=1,0",
    "quality=0",
    "quality=" + "9" * 5000,
    "depth=32",
    "size=0",
    "size=-1",
    "size=1e-300",
    "edge=hr",
    "crop=true&crop=false",
    "crop",
    "a=b&" * 100,
    "%ff=%fe",
    "crop=%ED%A0%80",
    "=",
]


@pytest.mark.parametrize("query", OPTIONS)
def test_options_without_meaning_are_refused(live: Live, query: str) -> None:
    reply = live.post(PICTURE, "?" + query, Content_Type="image/png")
    assert reply.status == 400, reply.body
    assert reply.code in ("bad_option", "bad_request")
    _check_words(reply)


@pytest.mark.parametrize(
    "path",
    ["/page/../../etc/passwd", "/page/..%2f..%2fetc/passwd", "/page/%2e%2e/%2e%2e/etc/passwd",
     "/page//etc/passwd", "/page/..\\..\\a", "/page/%00", "/page/.", "/page/", "/../etc/passwd",
     "//etc/passwd", "/page/" + "a/" * 4000, "/page/%ff", "/page/__init__.py", "/v1/remove/",
     "/V1/REMOVE", "/v1/../healthz"],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(live: Live, path: str) -> None:
    reply = live.raw(f"GET {path} HTTP/1.1\r\nHost: HOST\r\n\r\n".encode())
    assert reply is not None
    assert reply.status in (404, 405)
    assert b"root:" not in reply.body


@pytest.mark.parametrize(
    "name",
    ['../../x.png', '..\\\\x.png', 'a\\"; filename=\\"b.exe', '\\r\\nX-Bad: 1', '\xff\xfe',
     '.' * 999, '%0d%0aX-Bad:%201', 'a;b=c', '', 'CON'],
)  # fmt: skip
def test_a_file_name_comes_back_harmless(live: Live, name: str) -> None:
    part = b'--cut\r\nContent-Disposition: form-data; name="image"; filename="%s"\r\n\r\n%s\r\n'
    reply = live.post(part % (name.encode("latin-1"), PICTURE) + END, Content_Type=FORM)
    assert reply.status == 200, reply.body
    assert "x-bad" not in reply.headers
    before, _, given = reply.headers["content-disposition"].partition("filename=")
    assert before == "inline; "
    assert set(given[1:-1]) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    )
    assert not given[1:-1].startswith(".")


@pytest.mark.parametrize(
    "value", [b"a b", b"\xff", b"a" * 65, b"a\tb", b'a"b', b"<script>", b"a,b"]
)
def test_an_id_that_could_do_harm_is_not_taken_over(live: Live, value: bytes) -> None:
    reply = live.raw(b"GET /healthz HTTP/1.1\r\nHost: HOST\r\nX-Request-Id: " + value + b"\r\n\r\n")
    assert reply is not None
    assert reply.status == 200
    assert reply.headers["x-request-id"].isalnum()
    assert (
        live.post(b"", path="/healthz", method="GET", X_Request_Id="a.b_c-1").headers[
            "x-request-id"
        ]
        == "a.b_c-1"
    )


@pytest.mark.parametrize(
    "method", ["GET", "PUT", "DELETE", "TRACE", "PROPFIND", "OPTIONS", "X" * 99]
)
def test_other_methods_are_refused(live: Live, method: str) -> None:
    reply = live.post(b"", method=method)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("name", "value"),
    [("Host", "example.org"), ("Host", "127.0.0.1.example.org"), ("Origin", "http://example.org"),
     ("Origin", "null"), ("Content-Encoding", "gzip")],
)  # fmt: skip
def test_requests_of_other_pages_and_names_are_refused(live: Live, name: str, value: str) -> None:
    reply = live.post(PICTURE, **{name: value, "Content_Type": "image/png"})
    assert reply.status == (400 if name == "Content-Encoding" else 403)
    _check_words(reply)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_client_that_hangs_up_leaves_nothing_behind(live: Live, share: float) -> None:
    head = b"POST /v1/remove HTTP/1.1\r\nHost: HOST\r\nContent-Type: image/png\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(PICTURE)
    for _ in range(20):
        with live.connect() as connection:
            send(connection, [head, PICTURE[: round(len(PICTURE) * share)]], live.port)
    live.settle()


def test_a_client_that_does_not_read_keeps_nobody_waiting(live: Live) -> None:
    picture = encoded(disc(1000, 1000), "JPEG")
    head = b"POST /v1/remove?foreground=off&format=tiff HTTP/1.1\r\nHost: HOST\r\n"
    head += b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
    with live.connect() as connection:
        send(connection, [head, picture], live.port)
        _check_alive(live)
        live.settle()


def test_two_hundred_at_once_are_answered_or_told_when_to_come_again(live: Live) -> None:
    replies: list[Reply] = []
    # Large enough that they come faster than they are done.
    picture = encoded(disc(600, 800), "JPEG")

    def ask() -> None:
        replies.append(live.post(picture, "?size=0.01", Content_Type="image/jpeg"))

    threads = [threading.Thread(target=ask) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(replies) == 200
    found = Counter(reply.status for reply in replies)
    assert set(found) == {200, 503}
    # Those that wait at first, at least.
    assert found[200] >= QUEUE
    for reply in replies:
        if reply.status == 200:
            height, width, channels = decoded(reply.body).shape
            assert height * width <= 10_000 < 1.1 * height * width
            assert channels == 4
        else:
            assert reply.code == "busy"
            assert int(reply.headers["retry-after"]) >= 1
    live.settle()


def test_requests_one_after_the_other_in_one_packet_are_all_answered(live: Live) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: HOST\r\n\r\n"
    with live.connect() as connection:
        send(connection, [one * 50], live.port)
        answers = b""
        while answers.count(b"HTTP/1.1 200 OK") < 50 and (piece := connection.recv(65536)):
            answers += piece
    assert answers.count(b"HTTP/1.1 200 OK") == 50
