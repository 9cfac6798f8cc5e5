"""The sandbox over real sockets, against a merchant written by hand."""

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from base64 import b64encode
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest
import trustme
from sandbox_merchant import COMPACT, NOW_MS, PRETTY, SORTED, WAYS, HandClock, Merchant, send, written

from proxy.sandbox.accounts import fresh_accounts
from proxy.sandbox.server import Faults, Sandbox, fingerprint

PROFILES = list(WAYS)
BEARING = [profile for profile in PROFILES if profile != "doku-nonsnap"]
SNAP = [profile for profile in PROFILES if WAYS[profile].signs == "symmetric"]
RSA = [*SNAP, "klikoo"]
EXCLUSIVE = ["netzme", "netzme-main", "netzme-vsnap"]
SIGNATURE_REFUSED = dict.fromkeys(PROFILES, 401) | {"klikoo": 400}


@pytest.fixture(scope="module")
def fresh():
    return {one.account.profile: one for one in fresh_accounts(PROFILES)}


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
async def sandbox(fresh, clock):
    box = Sandbox([one.account for one in fresh.values()], clock=clock, faults=Faults())
    box.address = await box.start("127.0.0.1", 0)
    yield box
    await box.stop()


@pytest.fixture
async def merchant(request, fresh, clock, sandbox):
    """Of the profile given by indirect parametrisation, with a token where the provider wants one."""
    one = Merchant(fresh[request.param], sandbox.address, clock)
    if one.ways.token_path:
        await one.log_in()
    return one


def every(profiles):
    return pytest.mark.parametrize("merchant", profiles, indirect=True)


def other_pem(fresh, merchant):
    """Another merchant's key."""
    return next(one.private_key_pem for one in fresh.values() if one is not merchant.fresh and one.private_key_pem)


@every(PROFILES)
async def test_a_call_is_accepted_and_shown_back(merchant, sandbox):
    reply = await merchant.call()
    content = reply.content.get("data", reply.content)
    assert reply.status == 200
    assert content["method"] == "POST"
    assert content["path"] == "/v1.0/things?b=2&a=%2f"
    assert content["bodySha256"] == hashlib.sha256(PRETTY).hexdigest()
    assert ("?b=2&a=%2f" in content["stringToSign"]) == (merchant.ways.path == "path_and_query")
    assert "x-sandbox-explains" not in reply.headers
    assert "server" not in reply.headers
    assert parsedate_to_datetime(reply.headers["date"]).timestamp() * 1000 == NOW_MS
    entry = sandbox.journal[-1]
    assert (entry.kind, entry.account, entry.status, entry.part) == ("call", merchant.fresh.account.name, 200, None)
    assert entry.token_fingerprint == (fingerprint(merchant.token) if merchant.ways.token_path else "")
    assert (entry.target, entry.arrived_ms) == ("/v1.0/things?b=2&a=%2f", NOW_MS)


@every(PROFILES)
async def test_a_call_without_body_is_accepted(merchant):
    assert (await merchant.call("/v1.0/things", b"", method="GET")).status == 200


def named(reply, merchant, part):
    """The refusal of a signature, with its part in the header and in the provider's own message."""
    assert reply.status == SIGNATURE_REFUSED[merchant.fresh.account.profile], reply
    assert reply.part == part, reply.headers
    assert reply.headers["x-sandbox-explains"].isascii()
    assert part in json.dumps(reply.content)
    return True


WRONG_BODY = {PRETTY: COMPACT, COMPACT: PRETTY, SORTED: COMPACT}


@every(PROFILES)
async def test_a_wrong_body_is_named(merchant):
    assert named(await merchant.call(over={"body": WRONG_BODY[merchant.ways.canonical]}), merchant, "body")
    assert named(await merchant.call(over={"body": b'{"b": "x  y", "a": 1.1}'}), merchant, "body")


@every(PROFILES)
async def test_a_wrong_path_is_named(merchant):
    path, target = "/v1.0/things", "/v1.0/things?b=2&a=%2f"
    wrong = path if merchant.ways.path == "path_and_query" else target
    mount = f"/{merchant.fresh.account.name}"
    for other in (wrong, mount + path, mount + target, "/v1.0/things?b=2&a=/", path + "/"):
        assert named(await merchant.call(target, over={"path": other}), merchant, "path")


@every(PROFILES)
async def test_a_wrong_body_and_path_together_are_named(merchant):
    ways = merchant.ways
    wrong = "/v1.0/things" if ways.path == "path_and_query" else "/v1.0/things?b=2&a=%2f"
    reply = await merchant.call(over={"path": wrong, "body": WRONG_BODY[ways.canonical]})
    assert named(reply, merchant, "body")
    assert ", and over " in reply.headers["x-sandbox-explains"]


@every(PROFILES)
async def test_a_wrong_time_is_named(merchant):
    for seconds in (-301, 301, -7 * 3600):
        reply = await merchant.call(over={"sent_time": written(NOW_MS + seconds * 1000, merchant.ways.time)})
        assert (reply.status in (400, 401), reply.part) == (True, "time")
        assert f"{abs(seconds)} s" in reply.headers["x-sandbox-explains"]
    for seconds in (-299, 299):
        reply = await merchant.call(over={"sent_time": written(NOW_MS + seconds * 1000, merchant.ways.time)})
        assert reply.status == 200
    reply = await merchant.call(over={"sent_time": "15 January 2026"})
    assert (reply.status in (400, 401), reply.part) == (True, "time")


@every(PROFILES)
async def test_another_time_in_the_string_than_in_the_header_is_named(merchant):
    """The clock read twice, or written in two forms."""
    other_form = {"jakarta": "utc", "utc": "jakarta", "jakarta_ms": "jakarta", "epoch_ms": "utc"}[merchant.ways.time]
    assert named(await merchant.call(over={"time": written(NOW_MS, other_form)}), merchant, "time")
    assert named(await merchant.call(over={"time": written(NOW_MS + 1000, merchant.ways.time)}), merchant, "time")


@every(BEARING)
async def test_a_wrong_token_is_named(merchant):
    assert named(await merchant.call(over={"token": f"Bearer {merchant.token}"}), merchant, "token")
    assert named(await merchant.call(over={"token": ""}), merchant, "token")
    reply = await merchant.call(headers={"Authorization": merchant.token})
    assert (reply.status, reply.part) == (401, "token")
    merchant.token = "0" * 64
    reply = await merchant.call()
    assert (reply.status, reply.part) == (401, "token")


@every(PROFILES)
async def test_a_wrong_key_is_named(merchant):
    assert named(await merchant.call(over={"secret": "another secret"}), merchant, "key")


@every(PROFILES)
async def test_method_encoding_and_algorithm_are_named(merchant):
    other_hash = "sha512" if merchant.ways.signs in ("netzme", "doku_lines") else "sha256"
    if merchant.ways.signs != "doku_lines":
        assert named(await merchant.call(over={"method": "post"}), merchant, "method")
    assert named(await merchant.call(over={"hex": True}), merchant, "encoding")
    assert named(await merchant.call(over={"hash": other_hash}), merchant, "algorithm")
    assert named(await merchant.call(over={"hash": other_hash, "hex": True}), merchant, "algorithm")


@every(["netzme", "netzme-main"])
async def test_netzmes_bare_secret_as_key_is_named(merchant):
    reply = await merchant.call(over={"key": merchant.secret})
    assert named(reply, merchant, "key")
    assert "bare secret" in reply.headers["x-sandbox-explains"]


@every(["snap", "doku", "ifortepay-payment"])
async def test_asymmetric_calls_need_no_token(merchant, fresh):
    assert (await merchant.call(over={"kind": "asymmetric"})).status == 200
    assert named(await merchant.call(over={"kind": "asymmetric", "body": PRETTY}), merchant, "body")
    assert named(await merchant.call(over={"kind": "asymmetric", "pem": other_pem(fresh, merchant)}), merchant, "key")
    bare = await merchant.call(headers={"Authorization": None})
    assert named(bare, merchant, "algorithm")
    both = await merchant.call(over={"kind": "asymmetric"}, headers={"Authorization": f"Bearer {merchant.token}"})
    assert named(both, merchant, "algorithm")


@every(["ifortepay-disbursement", "netzme-vsnap"])
async def test_asymmetric_calls_are_refused_where_they_are_not_on_offer(merchant):
    reply = await merchant.call("/v1.2/transfer-interbank", over={"kind": "asymmetric"})
    assert reply.content["responseCode"] == "4001802"
    assert reply.content["responseMessage"].startswith("Invalid Mandatory Field Authorization")
    assert reply.part == "header"


@every(PROFILES)
async def test_every_required_header_is_missed(merchant):
    for name in merchant.headers("POST", "/v1.0/things", PRETTY):
        if name == "Authorization" and "asymmetric" in merchant_kinds(merchant):
            continue
        if name == "CHANNEL-ID" and merchant.fresh.account.profile in ("snap", "netzme-vsnap"):
            continue
        for value in (None, ""):
            reply = await merchant.call(headers={name: value})
            assert (reply.status in (400, 401), reply.part) == (True, "header"), name
            assert name in reply.headers["x-sandbox-explains"]


def merchant_kinds(merchant):
    return ("asymmetric",) if merchant.fresh.account.profile in ("snap", "doku", "ifortepay-payment") else ()


@every(PROFILES)
async def test_a_second_signature_header_is_refused_however_it_is_spelt(merchant):
    headers = merchant.headers("POST", "/v1.0/things", PRETTY)
    for name in [name for name in headers if name != "CHANNEL-ID"]:
        for spelling in (name.lower(), name.replace("-", "_"), name.replace("-", ".")):
            pairs = [*headers.items(), (spelling, headers[name])]
            target = f"/{merchant.fresh.account.name}/v1.0/things"
            reply = await send(merchant.address, "POST", target, pairs, PRETTY)
            assert (reply.status in (400, 401), reply.part) == (True, "header"), spelling


@every(SNAP)
async def test_an_external_id_is_used_once_a_day(merchant, clock):
    def call(external_id):
        return merchant.call("/v1.1/transfer-va/create-va", headers={"X-EXTERNAL-ID": external_id})

    assert (await call("4711")).status == 200
    again = await call("4711")
    assert (again.status, again.part, again.content["responseCode"]) == (409, "external_id", "4092700")
    assert (await call("4712")).status == 200
    for wrong in ("47a", "-1", "1" * 37, "\u0664"):
        assert (await call(wrong)).part == "external_id"

    clock.at_ms += 24 * 3_600_000
    await merchant.log_in()
    assert (await call("4711")).status == 200


@every(["snap", "doku-nonsnap"])
async def test_a_refused_call_does_not_use_up_its_external_id(merchant):
    name = "X-EXTERNAL-ID" if merchant.ways.token_path else "Request-Id"
    headers = merchant.headers("POST", "/v1.0/things", PRETTY)
    assert (await merchant.exchange("POST", "/v1.0/things", headers | {"CHANNEL-ID": "x"}, b"[]")).status == 401
    assert (await merchant.exchange("POST", "/v1.0/things", headers, PRETTY)).status == 200
    again = await merchant.exchange("POST", "/v1.0/things", headers, PRETTY)
    assert (again.status, again.part) == (409, "external_id")
    assert name in again.headers["x-sandbox-explains"]


@every(EXCLUSIVE)
async def test_a_new_token_kills_the_one_before(merchant, clock):
    old = merchant.token
    await merchant.log_in()
    assert (await merchant.call()).status == 200
    assert named(await merchant.call(over={"token": old}), merchant, "token")
    merchant.token = old
    reply = await merchant.call()
    assert (reply.status, reply.part) == (401, "token")
    assert "newer token" in reply.headers["x-sandbox-explains"]


@every([profile for profile in BEARING if profile not in EXCLUSIVE])
async def test_elsewhere_both_tokens_live(merchant):
    old = merchant.token
    await merchant.log_in()
    assert (await merchant.call()).status == 200
    merchant.token = old
    assert (await merchant.call()).status == 200


LIFETIMES = {"netzme": 36_000, "netzme-main": 86_400, "netzme-vsnap": 54_000}


@every(BEARING)
async def test_a_token_lives_as_long_as_it_says(merchant, clock):
    life_ms = LIFETIMES.get(merchant.fresh.account.profile, 900) * 1000
    clock.at_ms += life_ms - 1
    assert (await merchant.call()).status == 200
    clock.at_ms += 1
    reply = await merchant.call()
    assert (reply.status, reply.part) == (401, "token")
    assert reply.headers["x-sandbox-explains"] == "token: the token has expired"


@every(["klikoo", "doku", "netzme"])
async def test_tokens_expire_on_demand_and_by_order(merchant, sandbox, clock):
    sandbox.expire_tokens(merchant.fresh.account.name)
    assert "expired" in (await merchant.call()).headers["x-sandbox-explains"]
    sandbox.faults.lifetimes[merchant.fresh.account.name] = 2
    await merchant.log_in()
    assert (await merchant.call()).status == 200
    clock.at_ms += 2000
    assert "expired" in (await merchant.call()).headers["x-sandbox-explains"]


async def test_token_answers_are_as_documented(fresh, clock, sandbox):
    def ask(profile):
        return Merchant(fresh[profile], sandbox.address, clock).ask()

    doku = await ask("doku")
    token = doku.content.pop("accessToken")
    assert doku.content == {
        "responseCode": "2007300",
        "responseMessage": "Successful",
        "tokenType": "Bearer",
        "expiresIn": 900,
        "additionalInfo": "",
    }
    assert doku.headers["x-client-key"] == fresh["doku"].account.client_id
    assert doku.headers["x-timestamp"] == written(NOW_MS, "utc")
    assert sandbox.journal[-1].token_fingerprint == fingerprint(token)
    assert sandbox.journal[-1].kind == "token"
    for profile, lifetime in (("ifortepay-payment", "900"), ("snap", "900"), ("netzme-vsnap", "54000")):
        content = (await ask(profile)).content
        assert (content["expiresIn"], content["additionalInfo"]) == (lifetime, {})
    klikoo = (await ask("klikoo")).content
    klikoo["data"].pop("access_token")
    assert klikoo == {
        "response_code": "200012000",
        "response_message": "Sukses",
        "data": {"token_type": "Bearer", "expires_in": 900},
    }
    netzme = (await ask("netzme")).content
    assert len(bytes.fromhex(netzme.pop("access_token"))) == 32
    assert netzme == {
        "status": "SUCCEES",
        "username": fresh["netzme"].account.client_id,
        "token_type": "bearer",
        "expiry_token": NOW_MS + 36_000_000,
    }


@every(RSA)
async def test_refused_token_calls_name_their_part(merchant, fresh):
    klikoo = merchant.ways.asks == "klikoo"
    signature = ("400016508", 400) if klikoo else ("4017300", 401)
    form = {"jakarta": "utc", "utc": "jakarta", "jakarta_ms": "jakarta"}[merchant.ways.time]
    twists = [
        ({"pem": other_pem(fresh, merchant)}, signature, "key"),
        ({"separator": ":"}, signature, "encoding"),
        ({"time": written(NOW_MS, form)}, signature, "time"),
        (
            {"sent_time": written(NOW_MS - 301_000, merchant.ways.time)},
            ("400016505" if klikoo else "4007301", 400),
            "time",
        ),
    ]
    for over, (code, status), part in twists:
        reply = await merchant.ask(**over)
        content = reply.content
        assert (reply.status, content.get("responseCode") or content["response_code"]) == (status, code)
        assert reply.part == part


@every(RSA)
async def test_a_token_call_needs_grant_and_headers(merchant):
    headers, body = merchant.token_request()
    path = merchant.ways.token_path
    klikoo = merchant.ways.asks == "klikoo"
    for wrong in (b"", b"[]", b"{", body.replace(b"client_credentials", b"password"), b"[" * 100_000):
        reply = await merchant.exchange("POST", path, headers, wrong)
        code = reply.content.get("responseCode") or reply.content["response_code"]
        assert (code, reply.part) == ("400016569" if klikoo else "4007301", "body")
    for name in headers:
        kept = {other: value for other, value in headers.items() if other != name}
        reply = await merchant.exchange("POST", path, kept, body)
        assert (reply.status, reply.part) == (400, "header")
        if not klikoo:
            assert reply.content["responseCode"] == "4007302"


@every(SNAP)
async def test_an_unknown_client_is_told(merchant):
    headers, body = merchant.token_request()
    reply = await merchant.exchange("POST", merchant.ways.token_path, headers | {"X-CLIENT-KEY": "who"}, body)
    assert (reply.status, reply.content["responseCode"]) == (401, "4017300")
    assert reply.content["responseMessage"].startswith("Unauthorized. Unknown Client")


@every(["klikoo", "netzme", "netzme-main"])
async def test_wrong_credentials_are_refused(merchant, sandbox):
    sandbox.journal.clear()
    reply = await merchant.ask(secret="another")
    assert [(entry.kind, entry.token_fingerprint) for entry in sandbox.journal] == [("token", "")]
    assert (reply.status, reply.part) == (401, "credentials")
    assert reply.content.get("response_code", reply.content.get("status")) in ("401016570", "UNAUTHORIZED")


async def test_documented_codes_of_refused_calls(fresh, clock, sandbox):
    klikoo, doku, lines, netzme = (
        Merchant(fresh[profile], sandbox.address, clock) for profile in ("klikoo", "doku", "doku-nonsnap", "netzme")
    )
    path = "/bi-snap-va/v1/transfer-va/create-va"
    unknown = await doku.call(path)
    assert (unknown.status, unknown.content["responseCode"]) == (401, "4012701")
    assert unknown.content["responseMessage"].startswith("Invalid Token (B2B)")
    assert (await klikoo.call()).content["response_code"] == "401006500"
    assert (await netzme.call()).content["status"] == "UNAUTHORIZED"

    for merchant in (doku, klikoo, netzme):
        await merchant.log_in()
    bad = {"over": {"secret": "another"}}
    assert (await doku.call(path, **bad)).content["responseCode"] == "4012700"
    assert (await doku.call("/other", **bad)).content["responseCode"] == "4010000"
    assert (await doku.call(path, headers={"X-TIMESTAMP": "now"})).content["responseCode"] == "4002701"
    assert (await doku.call(path, headers={"CHANNEL-ID": None})).content["responseCode"] == "4002702"
    assert (
        (await doku.call(path, headers={"X-PARTNER-ID": "me"}))
        .content["responseMessage"]
        .startswith("Unauthorized. Unknown Client")
    )
    assert (await klikoo.call(**bad)).content["response_code"] == "400006508"
    assert (await klikoo.call(over={"sent_time": written(NOW_MS, "utc")})).content["response_code"] == "400006505"
    assert (await netzme.call(**bad)).content["status"] == "UNAUTHORIZED"
    assert (await lines.call(**bad)).content["error"]["code"] == "invalid_signature"
    assert (await lines.call(headers={"Client-Id": "me"})).content["error"]["code"] == "invalid_client_id"
    sandbox.expire_tokens("klikoo")
    assert (await klikoo.call()).content["response_code"] == "401006535"


async def test_dokus_time_must_be_utc_unless_its_reading_is_free(fresh, clock):
    account = fresh["doku"]
    free = replace(account, account=replace(account.account, name="free", readings={"timestamp": "free"}))
    box = Sandbox([account.account, free.account], clock=clock)
    address = await box.start("127.0.0.1", 0)
    local = written(NOW_MS, "jakarta")
    strict, loose = Merchant(account, address, clock), Merchant(free, address, clock)
    assert (await strict.ask(sent_time=local)).part == "time"
    await strict.log_in()
    assert (await strict.call(over={"sent_time": local})).part == "time"
    assert (await loose.ask(sent_time=local)).status == 200
    await loose.log_in()
    assert (await loose.call(over={"sent_time": local})).status == 200
    await box.stop()


@pytest.mark.parametrize(
    ("readings", "over"),
    [
        ({"canonical": "raw"}, {"body": PRETTY}),
        ({"canonical": "sorted"}, {"body": SORTED}),
        ({"sign_path": "path"}, {"path": "/v1.0/things"}),
        ({"strip_base_path": "false"}, {"path": "/snap/v1.0/things?b=2&a=%2f"}),
        ({"strip_base_path": "false", "sign_path": "path"}, {"path": "/snap/v1.0/things"}),
        ({"sign_path": "full_url"}, {"path": "http://127.0.0.1:{port}/snap/v1.0/things?b=2&a=%2f"}),
    ],
    ids=str,
)
async def test_readings_are_the_accounts_own(fresh, clock, readings, over):
    one = replace(fresh["snap"], account=replace(fresh["snap"].account, readings=readings))
    box = Sandbox([one.account], clock=clock)
    address = await box.start("127.0.0.1", 0)
    merchant = Merchant(one, address, clock)
    await merchant.log_in()
    over = {name: value.replace("{port}", str(address[1])) if name == "path" else value for name, value in over.items()}
    assert (await merchant.call(over=over)).status == 200
    assert (await merchant.call()).part in ("body", "path")
    await box.stop()


async def test_another_separator_can_be_read(fresh, clock):
    one = replace(fresh["snap"], account=replace(fresh["snap"].account, readings={"token_separator": ":"}))
    box = Sandbox([one.account], clock=clock)
    merchant = Merchant(one, await box.start("127.0.0.1", 0), clock)
    assert (await merchant.ask(separator=":")).status == 200
    assert (await merchant.ask()).part == "encoding"
    await box.stop()


@pytest.mark.parametrize(
    "readings", [{"canonical": "strip_all"}, {"colour": "red"}, {"digest_for": "by_body"}], ids=str
)
def test_an_unknown_reading_is_refused_at_once(fresh, clock, readings):
    with pytest.raises(ValueError, match="no such reading"):
        Sandbox([replace(fresh["snap"].account, readings=readings)], clock=clock)


async def test_dokus_digest_line_by_method_or_by_body(fresh, clock):
    account = fresh["doku-nonsnap"]
    by_body = replace(account, account=replace(account.account, readings={"digest_for": "by_body"}))
    for one, statuses in ((account, (401, 200)), (by_body, (200, 401))):
        box = Sandbox([one.account], clock=clock)
        merchant = Merchant(one, await box.start("127.0.0.1", 0), clock)
        without = await merchant.call("/x", b"", method="POST")
        assert without.status == statuses[0]
        assert without.part in ("", "body")
        await box.stop()


async def test_get_signature_is_the_providers_own_computation(fresh, clock, sandbox):
    account = fresh["klikoo"].account
    moment = "2021-07-01T09:00:00.000+07:00"
    asked = {
        "client_id": account.client_id,
        "method": "GET",
        "path": "/v1/open-api/balance",
        "token": "tok",
        "timestamp": moment,
    }

    def ask(time=moment, **changes):
        target, body = "/klikoo/v1/open-api/signature", json.dumps(asked | changes).encode()
        return send(sandbox.address, "POST", target, [("Open-Api-Timestamp", time)], body)

    string = f"GET:/v1/open-api/balance:tok:{hashlib.sha256(b'').hexdigest()}:{moment}"
    mac = hmac.digest(account.client_secret.reveal().encode(), string.encode(), "sha512")
    reply = await ask()
    assert reply.content == {
        "response_code": "200012000",
        "response_message": "Sukses",
        "data": {"signature": b64encode(mac).decode()},
    }
    assert sandbox.journal[-1].kind == "other"
    assert (await ask(client_id="me")).content["response_code"] == "401016570"
    assert (await ask(time="2021-07-01T09:00:01.000+07:00")).part == "time"
    assert (await ask(token=None)).part == "body"
    assert (await ask(token="\ud800")).part == "body"


@every(["klikoo"])
async def test_get_signature_agrees_with_the_judge(merchant):
    moment, path = written(NOW_MS, "jakarta_ms"), "/v1/open-api/balance"
    asked = {
        "client_id": merchant.client_id,
        "method": "GET",
        "path": path,
        "token": merchant.token,
        "timestamp": moment,
    }
    headers = {"Open-Api-Timestamp": moment}
    reply = await merchant.exchange("POST", "/v1/open-api/signature", headers, json.dumps(asked).encode())
    signed = headers | {
        "Authorization": f"Bearer {merchant.token}",
        "Open-Api-Signature": reply.content["data"]["signature"],
    }
    assert (await merchant.exchange("GET", path, signed)).status == 200


@every(PROFILES)
async def test_no_bytes_in_headers_target_or_body_upset_it(merchant, sandbox):
    """Each is refused in the provider's own shape, never with a 500."""
    odd = "\u00ff\u20ac\udcff".encode("utf-8", "surrogateescape")
    headers = merchant.headers("POST", "/x", PRETTY)
    for name in headers:
        pairs = {**headers, name: "@"}
        lines = [f"POST /{merchant.fresh.account.name}/x HTTP/1.1", "Host: h", f"Content-Length: {len(odd)}"]
        lines += ["Connection: close", *(f"{n}: {v}" for n, v in pairs.items()), "", ""]
        head = "\r\n".join(lines).encode().replace(b": @", b": " + odd)
        reader, writer = await asyncio.open_connection(*sandbox.address)
        writer.write(head + odd)
        answer = await asyncio.wait_for(reader.read(), 2)
        assert answer.split()[1] in (b"400", b"401"), name
        assert json.loads(answer.partition(b"\r\n\r\n")[2])
        writer.close()


@pytest.mark.parametrize(
    "target", ["/nobody/x", "/", "/nobody", "*", "/dokuu/authorization/v1/access-token/b2b", "//doku/x"]
)
async def test_an_unknown_mount_is_404(sandbox, target):
    reply = await send(sandbox.address, "OPTIONS" if target == "*" else "POST", target, [])
    assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
    assert (sandbox.journal[-1].kind, sandbox.journal[-1].account) == ("other", "")


async def test_faults_to_order(fresh, clock, sandbox):
    merchant = Merchant(fresh["doku"], sandbox.address, clock)
    sandbox.faults.token_status, sandbox.faults.retry_after = 429, 7
    reply = await merchant.ask()
    assert (reply.status, reply.headers["retry-after"], reply.content["responseCode"]) == (429, "7", "4297300")
    sandbox.faults.token_status, sandbox.faults.retry_after = 500, None
    reply = await merchant.ask()
    assert (reply.status, "retry-after" in reply.headers) == (500, False)
    sandbox.faults.token_status = None
    await merchant.log_in()

    sandbox.faults.token_delay = sandbox.faults.call_delay = 0.15
    for exchange in (merchant.ask, merchant.call):
        start = time.monotonic()
        assert (await exchange()).status == 200
        assert 0.14 < time.monotonic() - start < 2


async def test_the_body_is_judged_as_it_came(fresh, clock, sandbox):
    """Neither inflated nor decoded, and chunked is as good as counted."""
    merchant = Merchant(fresh["doku-nonsnap"], sandbox.address, clock)
    body = b"\x1f\x8b not really gzip"
    assert (await merchant.call(body=body, headers={"Content-Encoding": "gzip"})).status == 200


async def test_a_client_that_expects_100_is_told_to_go_on(fresh, clock, sandbox):
    merchant = Merchant(fresh["doku-nonsnap"], sandbox.address, clock)
    headers = merchant.headers("POST", "/x", PRETTY) | {"Expect": "100-continue", "Host": "h", "Connection": "close"}
    headers["Content-Length"] = str(len(PRETTY))
    reader, writer = await asyncio.open_connection(*sandbox.address)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /doku-nonsnap/x HTTP/1.1\r\n{head}\r\n".encode())
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(PRETTY)
    assert (await asyncio.wait_for(reader.read(), 2)).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("target", ["/a//b/", "/a%2Fb%7E/%41?x=%2f&&y", "/a;v=1/(b)!$&'*+,=:@?a=1&a=1", "/?x", "/a?"])
async def test_targets_are_judged_as_written(fresh, clock, sandbox, target):
    merchant = Merchant(fresh["snap"], sandbox.address, clock)
    await merchant.log_in()
    reply = await merchant.call(target)
    assert (reply.status, reply.content["path"]) == (200, target)


async def test_stopping_ends_idle_connections_at_once(fresh, clock):
    box = Sandbox([fresh["snap"].account], clock=clock)
    reader, writer = await asyncio.open_connection(*await box.start("127.0.0.1", 0))
    writer.write(b"GET /snap/x HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 2)).startswith(b"HTTP/1.1 400")
    start = time.monotonic()
    await box.stop()
    assert time.monotonic() - start < 5
    await asyncio.wait_for(reader.read(), 2)
    assert reader.at_eof()
    writer.close()


async def test_a_malformed_request_is_refused_without_a_word_in_the_log(sandbox, caplog, capfd):
    reader, writer = await asyncio.open_connection(*sandbox.address)
    writer.write(b"GET /snap/x HTTP/1.1\r\nHost: h\r\nX-SIGNATURE: a\x01b\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 2)).split()[1] == b"400"
    writer.close()
    assert (caplog.text, capfd.readouterr()) == ("", ("", ""))


async def test_it_speaks_tls(fresh, clock):
    authority = trustme.CA()
    served, trusted = (ssl.SSLContext(side) for side in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusted)
    box = Sandbox([fresh["snap"].account], clock=clock, tls=served)
    address = await box.start("127.0.0.1", 0)
    reply = await send(address, "POST", "/snap/v1.0/access-token/b2b", [], tls=trusted)
    assert (reply.status, reply.part) == (400, "header")
    await box.stop()


async def test_nothing_secret_is_in_an_explanation_or_a_repr(fresh, clock, sandbox):
    merchant = Merchant(fresh["doku"], sandbox.address, clock)
    await merchant.log_in()
    headers = merchant.headers("POST", "/x", PRETTY, secret="another")
    reply = await merchant.exchange("POST", "/x", headers, PRETTY)
    told = (
        reply.headers["x-sandbox-explains"] + json.dumps(reply.content) + repr(merchant.fresh) + repr(sandbox.journal)
    )
    for secret in (merchant.secret, merchant.token, headers["X-SIGNATURE"], "PRIVATE KEY"):
        assert secret not in told
