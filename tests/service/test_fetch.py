"""Pictures by URL: what is fetched, and what no URL reaches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from birefnet_runtime.errors import FetchError
from birefnet_runtime.serve.addresses import is_public
from birefnet_runtime.serve.fetch import FetchLimits, Network, fetch
from birefnet_runtime.serve.target import Target
from helpers.web import Web, client_trust, server_trust

BODY = b"not a picture, but nobody looks at it here"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PORTS = frozenset({80, 443})
# Of an answer that never comes; long enough for one that does on a busy machine.
SHORT, LONG = 0.2, 20.0


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "100.63.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450:4001::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        # The metadata services of Alibaba, Azure (its public address), Oracle, AWS and others.
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "169.254.169.254",
        "127.0.0.1",
        "127.255.255.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        # Teredo and 6to4, of public addresses too; ISATAP within a public network.
        "2001::5ef5:79fd:0:59d:a0e5:ba1",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:0808:0808::1",
        "2002:7f00:1::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:10.0.0.1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%lo",
        "2606:4700::1111%lo",
        "fec0::1",
        "ff02::1",
        "localhost",
        "",
        "8.8.8.8/32",
        "010.8.8.8",
    ],
)
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("", "begin with http"),
        ("/etc/passwd", "begin with http"),
        ("file:///etc/passwd", "begin with http"),
        ("ftp://pictures.test/a", "begin with http"),
        ("gopher://pictures.test:80/_GET", "begin with http"),
        ("//pictures.test/a", "begin with http"),
        ("http://user@pictures.test/", "no user name"),
        ("http://user:word@pictures.test/", "no user name"),
        ("http://@pictures.test/", "no user name"),
        ("http://pictures.test:22/", "port must be one of 80, 443"),
        ("http://pictures.test:0/", "port must be one of 80, 443"),
        ("http://pictures.test:99999/", "cannot be understood"),
        ("http://pictures.test:x/", "cannot be understood"),
        ("http://[::1/", "cannot be understood"),
        ("http://[fe80::1%25lo]/", "in ASCII"),
        ("http:///a", "in ASCII"),
        ("http://pictures%2etest/", "in ASCII"),
        ("http://\u2460\u2461\u2466.0.0.1/", "in ASCII"),
        ("http://pictures.test\\@127.0.0.1/", "no blanks"),
        ("http://pictures.test/a b", "no blanks"),
        ("http://pictures.test/\r\nHost: x", "no blanks"),
        (" http://pictures.test/", "no blanks"),
        ("http://pictures.test/" + "a" * 2048, "at most 2048 signs"),
    ],
)
def test_urls_that_are_no_place_for_a_picture(url: str, text: str) -> None:
    with pytest.raises(FetchError, match=text):
        Target.of(url, PORTS)


def test_a_target_asks_for_the_url_as_it_was_written() -> None:
    target = Target.of("HTTP://Pictures.Test/\u00e4/%C3%A4?a=1&b=<>#part", PORTS)
    assert (target.host, target.port, target.secure) == ("pictures.test", 80, False)
    assert target.path == "/%C3%A4/%C3%A4?a=1&b=%3C%3E"
    assert target.authority == "pictures.test"
    assert Target.of("https://[2606:4700::1]", PORTS).authority == "[2606:4700::1]"
    assert Target.of("http://pictures.test:443/", PORTS).authority == "pictures.test:443"


@pytest.mark.parametrize(
    "pieces",
    [
        [GOOD],
        [GOOD[:9], GOOD[9:30], GOOD[30:]],
        [CHUNKED + b"4\r\n" + BODY[:4], b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY) - 4, BODY[4:])],
        [b"HTTP/1.0 200 OK\r\n\r\n", BODY],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", GOOD],
        [GOOD.replace(b"OK\r\n", b"OK\r\nContent-Encoding: identity\r\n")],
    ],
)
def test_the_body_of_an_answer_is_fetched(pieces: list[bytes]) -> None:
    assert _fetched({"/a": pieces})[0] == BODY


def test_a_request_tells_nothing_and_wants_nothing_compressed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing listens there: a fetch that asked a proxy would fail.
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    _, web = _fetched({"/a": [GOOD]})
    lines = web.requests[0].strip().split("\r\n")
    assert lines[0] == "GET /a HTTP/1.1"
    assert {line.split(":")[0] for line in lines[1:]} == {
        "Host", "User-Agent", "Accept", "Accept-Encoding", "Connection",
    }  # fmt: skip
    assert f"Host: pictures.test:{web.port}" in lines
    assert "Accept-Encoding: identity" in lines


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([GOOD.replace(b"200", b"404")], "status 404"),
        ([GOOD.replace(b"200", b"206")], "status 206"),
        ([GOOD.replace(b"200", b"302")], "status 302"),
        ([GOOD.replace(b"OK\r\n", b"OK\r\nContent-Encoding: gzip\r\n")], "compressed"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 26214401\r\n\r\n"], "more than 26214400 bytes"),
        ([GOOD[:-1]], "broke off"),
        ([CHUNKED + b"5\r\nab"], "broke off"),
        ([b""], "broke off"),
        ([b"SSH-2.0-OpenSSH_9.6\r\n"], "does not keep to HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"], "keep to HTTP"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab"], "keep to HTTP"),
        ([b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 60_000 + b"\r\n"], "keep to HTTP"),
        ([b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"], "keep to HTTP"),
    ],
)
def test_answers_that_bring_no_picture(pieces: list[bytes], text: str) -> None:
    with pytest.raises(FetchError, match=text):
        _fetched({"/a": pieces})


def test_an_answer_may_lead_elsewhere_three_times() -> None:
    answers = {f"/{step}": [_moved(f"/{step + 1}")] for step in range(2)}
    answers["/2"] = [_moved("http://pictures.test:{port}/3", 308)]
    assert _fetched({**answers, "/3": [GOOD]}, "/0")[0] == BODY
    with pytest.raises(FetchError, match="more than 3 times"):
        _fetched({**answers, "/3": [_moved("/4")], "/4": [GOOD]}, "/0")


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("file:///etc/passwd", "begin with http"),
        ("//user@pictures.test:{port}/b", "no user name"),
        ("http://pictures.test:25/", "port must be"),
        ("http://[::1", "cannot be understood"),
        ("http://pictures.test:{port}/a b", "no blanks"),
    ],
)
def test_where_an_answer_leads_is_checked_like_the_first_url(location: str, text: str) -> None:
    with pytest.raises(FetchError, match=text):
        _fetched({"/a": [_moved(location)], "/b": [GOOD]})


def test_each_step_is_looked_up_once_and_its_address_checked() -> None:
    looked: list[str] = []

    async def look_up(host: str, port: int) -> list[str]:
        looked.append(host)
        return ["127.0.0.1"]

    # The second host has a name that leads inside.
    answers = iter([True, False])
    web = Web({"/a": [_moved("http://inside.test:{port}/b")], "/b": [GOOD]})
    with pytest.raises(FetchError, match="cannot be reached"):
        _run(web, network=Network(look_up, lambda _: next(answers)))
    assert looked == ["pictures.test", "inside.test"]
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "127.1", "[::ffff:127.0.0.1]", "[::1]"],
)
def test_this_machine_is_out_of_reach(host: str) -> None:
    web = Web({"/a": [GOOD]})
    with pytest.raises(FetchError, match="cannot be reached"):
        _run(web, host=host, network=Network())
    assert not web.requests


def test_a_host_with_one_address_that_is_not_allowed_is_refused() -> None:
    web = Web({"/a": [GOOD]})
    inside = Network(_giving("127.0.0.1", "10.0.0.1"), lambda address: address == "127.0.0.1")
    with pytest.raises(FetchError, match="cannot be reached"):
        _run(web, network=inside)
    assert not web.requests


def test_the_next_address_is_tried_where_one_is_closed() -> None:
    web = Web({"/a": [GOOD]})
    assert _run(web, network=Network(_giving("::1", "127.0.0.1"), lambda _: True)) == BODY


def test_every_host_that_cannot_be_reached_gives_the_same_words() -> None:
    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    networks = [
        Network(unknown),
        Network(_giving()),
        Network(_giving("10.0.0.1")),
        Network(_giving("::1"), lambda _: True),
    ]
    texts = set()
    for network in networks:
        with pytest.raises(FetchError) as caught:
            _run(Web({}), network=network)
        texts.add(str(caught.value))
    assert len(texts) == 1


def test_a_certificate_must_be_the_hosts(tmp_path: Path) -> None:
    server = server_trust(tmp_path)
    trusted = replace(_network(), trust=client_trust)

    async def ask(host: str, network: Network) -> bytes:
        async with Web({"/a": [GOOD]}).listening(server) as web:
            url = f"https://{host}:{web.port}/a"
            return await fetch(url, FetchLimits(ports=frozenset({web.port})), network)

    assert asyncio.run(ask("pictures.test", trusted)) == BODY
    for host, network in [("other.test", trusted), ("pictures.test", _network())]:
        with pytest.raises(FetchError, match="cannot be reached"):
            asyncio.run(ask(host, network))


def test_https_never_leads_to_http() -> None:
    target = Target.of("https://pictures.test/a", PORTS)
    with pytest.raises(FetchError, match="from https to http"):
        target.follow("http://pictures.test/b", PORTS)
    assert target.follow("/b", PORTS).secure
    assert Target.of("http://pictures.test/", PORTS).follow("https://pictures.test/", PORTS).secure


@pytest.mark.parametrize(
    "pieces",
    [
        [CHUNKED, b"64\r\n%s\r\n" % (b"a" * 100)],
        [b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 100],
    ],
)
def test_more_bytes_than_the_limit_are_not_read(pieces: list[bytes]) -> None:
    async def ask() -> None:
        async with Web({"/a": pieces}, endless=True).listening() as web:
            with pytest.raises(FetchError, match="more than 1000 bytes"):
                await fetch(_url(web), _limits(web, size=1000), _network())
            await asyncio.wait_for(web.gone.wait(), LONG)

    asyncio.run(ask())


@pytest.mark.parametrize("pieces", [[], [GOOD[:-1], b""], [b"HTTP/1.1 100 Continue\r\n\r\n"]])
def test_an_answer_that_does_not_end_is_given_up(pieces: list[bytes]) -> None:
    async def ask() -> None:
        async with Web({"/a": pieces}, endless=True).listening() as web:
            with pytest.raises(FetchError, match=f"longer than {SHORT} s"):
                await fetch(_url(web), _limits(web, seconds=SHORT), _network())
            # A writer of nothing does not learn that its reader has gone.
            if pieces[1:] != [b""]:
                await asyncio.wait_for(web.gone.wait(), LONG)

    asyncio.run(asyncio.wait_for(ask(), LONG))


def test_a_name_that_is_looked_up_for_ever_is_given_up() -> None:
    async def look_up(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(FetchError, match="longer than"):
        asyncio.run(fetch("http://a.test/", FetchLimits(seconds=SHORT), Network(look_up)))


def _moved(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


def _giving(*addresses: str) -> Callable[[str, int], asyncio.Future[list[str]]]:
    def look_up(host: str, port: int) -> asyncio.Future[list[str]]:
        future = asyncio.get_running_loop().create_future()
        future.set_result(list(addresses))
        return future

    return look_up


def _network() -> Network:
    """Every name is this machine, which may be asked."""
    return Network(_giving("127.0.0.1"), lambda _: True)


def _url(web: Web, path: str = "/a", host: str = "pictures.test") -> str:
    return f"http://{host}:{web.port}{path}"


def _limits(web: Web, **changes: float) -> FetchLimits:
    return replace(FetchLimits(seconds=LONG, ports=frozenset({web.port})), **changes)  # type: ignore[arg-type]


def _run(
    web: Web, path: str = "/a", host: str = "pictures.test", network: Network | None = None
) -> bytes:
    async def ask() -> bytes:
        async with web.listening():
            return await fetch(_url(web, path, host), _limits(web), network or _network())

    return asyncio.run(ask())


def _fetched(answers: dict[str, list[bytes]], path: str = "/a") -> tuple[bytes, Web]:
    web = Web(answers)
    return _run(web, path), web
