"""An application as Micrometer's PrometheusRSocketClient makes one, on the RSocket of PyPI: gives its text when it is asked, and
pushes it before it ends.

Arguments: where (tcp://host:port, ws://..., tls://... with a certificate to trust behind it), its guid, and how it misbehaves:
well, slow, garbled, unwrapped, bomb, prose or silent. Each line of standard input is a command, each line of output its answer.
"""

import asyncio
import os
import ssl
import sys
import time
from datetime import timedelta
from urllib.parse import urlsplit

import cramjam
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives import padding as block
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from rsocket.helpers import create_future, single_transport_provider
from rsocket.payload import Payload
from rsocket.request_handler import BaseRequestHandler
from rsocket.rsocket_client import RSocketClient
from rsocket.transports.aiohttp_websocket import TransportAioHttpClient
from rsocket.transports.tcp import TransportTCP

where, guid, manner = sys.argv[1], sys.argv[2], sys.argv[3]
value = 1
extra = ""
key = asyncio.Event()
keys = []


def text():
    labels = f'application_guid="{guid}",application_name="py",stream_name="s"'
    return (
        "# HELP py_requests_total Requests.\n# TYPE py_requests_total counter\n"
        f"py_requests_total{{{labels}}} {value}.0\n"
        "# HELP py_seconds Time.\n# TYPE py_seconds summary\n"
        f"py_seconds_count{{{labels}}} {value}\npy_seconds_sum{{{labels}}} 0.5\n"
        f"# TYPE py_load gauge\npy_load{{{labels}}} 1.23456789125E8\n" + extra
    )


def seal(public):
    """The text under a key, as Java's ciphers seal it."""
    if public == b"plaintext":
        return Payload(text().encode(), b"plaintext")
    body = b"no metrics at all\n" if manner == "prose" else text().encode()
    packed = bytes(cramjam.snappy.compress_raw(body))
    if manner == "bomb":
        packed = b"\xff\xff\xff\xff\x0f" + packed
    wrapping = os.urandom(16)
    padder = block.PKCS7(128).padder()
    padded = padder.update(packed) + padder.finalize()
    encryptor = Cipher(algorithms.AES(wrapping), modes.ECB()).encryptor()
    sealed = encryptor.update(padded) + encryptor.finalize()
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA256(), None)
    wrapped = serialization.load_der_public_key(public).encrypt(wrapping, oaep)
    if manner == "unwrapped":
        wrapped = os.urandom(256)
    if manner == "garbled":
        sealed = os.urandom(len(sealed))
    return Payload(sealed, wrapped)


class Handler(BaseRequestHandler):
    async def request_response(self, payload):
        if manner == "silent":
            return asyncio.get_event_loop().create_future()
        answer = create_future(seal(bytes(payload.data)))
        if manner == "slow":
            await asyncio.sleep(3)
        return answer

    async def request_fire_and_forget(self, payload):
        keys.append(bytes(payload.data))
        key.set()


async def transport():
    url = urlsplit(where)
    if url.scheme == "ws":
        return TransportAioHttpClient(where)
    trusted = ssl.create_default_context(cafile=sys.argv[4]) if url.scheme == "tls" else None
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=trusted)
    return TransportTCP(reader, writer)


def say(what):
    print(what, flush=True)


async def alive(client):
    """Waits for three answers to KEEPALIVE."""
    seen = set()
    while len(seen) < 4:
        seen.add(client._last_server_keepalive)
        await asyncio.sleep(0.05)


async def main():
    global value, extra
    began = time.monotonic()
    async with RSocketClient(
        single_transport_provider(await transport()),
        handler_factory=Handler,
        metadata_encoding=b"application/binary",
        data_encoding=b"application/binary",
        keep_alive_period=timedelta(milliseconds=500),
        max_lifetime_period=timedelta(seconds=20),
        fragment_size_bytes=64 if manner == "fragments" else None,
    ) as client:
        await asyncio.wait_for(key.wait(), 60)
        say(f"key {len(keys[0])} {time.monotonic() - began:.3f}")
        while True:
            line = await asyncio.get_event_loop().run_in_executor(None, sys.stdin.readline)
            match line.split():
                case ["set", number]:
                    value = int(number)
                    say("set")
                case ["add"]:
                    extra = 'py_extra{application_guid="%s"} 1\n' % guid
                    say("added")
                case ["alive"]:
                    await alive(client)
                    say("alive")
                case ["push"]:
                    answer = await client.request_response(seal(keys[-1]))
                    say(f"pushed {len(answer.data or b'')}")
                case ["fail"]:
                    try:
                        await client.request_response(Payload(b"data", b"no key"))
                    except Exception as error:
                        say(f"refused {error}")
                case ["tell"]:
                    client.fire_and_forget(seal(keys[-1]))
                    await asyncio.sleep(0.2)
                    say("told")
                case _:
                    break
    say("closed")
    os._exit(0)


asyncio.run(main())
