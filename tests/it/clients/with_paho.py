"""One round of everything with paho: with_paho.py TRANSPORT PORT VERSION [CAFILE].

TRANSPORT is tcp, tls, ws or wss, VERSION 4 (MQTT 3.1.1) or 5. Prints `ok` at the end; the first
thing that differs ends it with a message.
"""

import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

transport, port, version = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cafile = sys.argv[4] if len(sys.argv) > 4 else None
is_v5 = version == 5
PATIENCE = 20
PREFIX = f"paho/{transport}/{version}"


def expect(is_so, what):
    if not is_so:
        sys.exit(f"{transport}, version {version}: {what}")


def next_of(events, what):
    try:
        return events.get(timeout=PATIENCE)
    except queue.Empty:
        sys.exit(f"{transport}, version {version}: {what} did not come")


class Client:
    """A connected client; what happens to it waits in queues."""

    def __init__(self, name, kept=False, will=None):
        self.name, self.kept = name, kept
        self.messages, self.connacks = queue.Queue(), queue.Queue()
        self.subacks, self.ends = queue.Queue(), queue.Queue()
        options = {} if is_v5 else {"clean_session": not kept}
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=f"paho-{transport}-{version}-{name}",
            protocol=mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311,
            transport="websockets" if transport in ("ws", "wss") else "tcp",
            **options,
        )
        if cafile:
            self.paho.tls_set(ca_certs=cafile)
        self.paho.on_connect = lambda _c, _u, flags, code, _p: self.connacks.put((flags, code))
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message)
        self.paho.on_subscribe = lambda _c, _u, _mid, codes, _p: self.subacks.put(codes)
        self.paho.on_disconnect = lambda _c, _u, _f, code, _p: self.ends.put(code)
        if will:
            self.paho.will_set(*will)
        self.connect()

    def connect(self):
        options = {}
        if is_v5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600 if self.kept else 0
            options = {"clean_start": not self.kept, "properties": properties}
        self.paho.connect("localhost", port, 60, **options)
        self.paho.loop_start()
        flags, code = next_of(self.connacks, f"CONNACK of {self.name}")
        expect(not code.is_failure, f"{self.name} was refused: {code}")
        self.session_present = flags.session_present

    def subscribe(self, topic, qos):
        self.paho.subscribe(topic, qos)
        for code in next_of(self.subacks, f"SUBACK of {topic}"):
            expect(not code.is_failure and code.value == qos, f"{topic}: {code}")

    def publish(self, topic, payload, qos, **options):
        self.paho.publish(f"{PREFIX}/{topic}", payload, qos, **options).wait_for_publish(PATIENCE)

    def receive(self, topic, payload, qos, retain=False):
        message = next_of(self.messages, f"{topic} {payload[:20]}")
        got = (message.topic, message.payload.decode(), message.qos, bool(message.retain))
        wanted = (f"{PREFIX}/{topic}", payload, qos, retain)
        expect(got == wanted, f"expected {wanted}, got {got}"[:400])
        return message

    def leave(self):
        self.paho.disconnect()
        next_of(self.ends, f"the end of {self.name}")
        self.paho.loop_stop()


def messages_of_every_qos(subscriber, publisher):
    for qos in (0, 1, 2):
        for payload in ("", "hello", "x" * 300_000):
            publisher.publish(f"qos{qos}", payload, qos)
            subscriber.receive(f"qos{qos}", payload, qos)


def retained_messages(publisher):
    publisher.publish("retained", "kept", 1, retain=True)
    late = Client("late")
    late.subscribe(f"{PREFIX}/retained", 1)
    late.receive("retained", "kept", 1, retain=True)
    publisher.publish("retained", "", 1, retain=True)
    late.receive("retained", "", 1)
    later = Client("later")
    later.subscribe(f"{PREFIX}/+", 1)
    publisher.publish("barrier", "nothing before it", 1)
    later.receive("barrier", "nothing before it", 1)
    late.leave()
    later.leave()


def a_will(watcher):
    dying = Client("dying", will=(f"{PREFIX}/will", "gone", 1, False))
    dying.paho.loop_stop()
    raw = dying.paho.socket()
    while not isinstance(raw, socket.socket):
        raw = raw._socket
    raw.shutdown(socket.SHUT_RDWR)
    watcher.receive("will", "gone", 1)


def a_shared_subscription(publisher):
    members = [Client(f"member{n}") for n in range(2)]
    for member in members:
        member.subscribe(f"$share/{transport}{version}/{PREFIX}/shared", 1)
    for n in range(20):
        publisher.publish("shared", str(n), 1)
    got = []
    for member in members:
        barrier = f"{PREFIX}/barrier/{member.name}"
        member.subscribe(barrier, 1)
        member.publish(f"barrier/{member.name}", "barrier", 1)
        mine = []
        while (message := next_of(member.messages, "a shared message")).topic != barrier:
            mine.append(int(message.payload))
        expect(mine and mine == sorted(mine), f"a member got {mine}")
        got += mine
        member.leave()
    expect(sorted(got) == list(range(20)), f"together they got {sorted(got)}")


def a_session_that_waits(publisher):
    kept = Client("kept", kept=True)
    expect(not kept.session_present, "a new session was there before")
    kept.subscribe(f"{PREFIX}/queued", 2)
    for qos in (1, 2):
        kept.leave()
        for n in range(30):
            publisher.publish("queued", f"message {n}", qos)
        kept.connect()
        expect(kept.session_present, "the session is gone")
        for n in range(30):
            kept.receive("queued", f"message {n}", qos)
    kept.leave()


def properties_of_5_0(subscriber, publisher):
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.ResponseTopic = "answers/here"
    properties.CorrelationData = b"\x00\x01"
    properties.MessageExpiryInterval = 100
    properties.UserProperty = [("a", "1"), ("b", "2"), ("a", "3")]
    publisher.publish("properties", "x", 1, properties=properties)
    got = subscriber.receive("properties", "x", 1).properties
    for name in ("ContentType", "ResponseTopic", "CorrelationData", "UserProperty"):
        same = getattr(got, name) == getattr(properties, name)
        expect(same, f"{name} came as {getattr(got, name)}")
    expect(0 < got.MessageExpiryInterval <= 100, "the expiry is gone")


def main():
    subscriber, publisher, watcher = Client("subscriber"), Client("publisher"), Client("watcher")
    subscriber.subscribe(f"{PREFIX}/+", 2)
    watcher.subscribe(f"{PREFIX}/will", 1)
    messages_of_every_qos(subscriber, publisher)
    if is_v5:
        properties_of_5_0(subscriber, publisher)
    subscriber.leave()
    retained_messages(publisher)
    a_will(watcher)
    a_shared_subscription(publisher)
    a_session_that_waits(publisher)
    watcher.leave()
    publisher.leave()
    print("ok")


main()
