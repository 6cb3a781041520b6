// One round of everything with MQTT.js: node with_mqtt_js.js TRANSPORT PORT VERSION [CAFILE].
//
// TRANSPORT is tcp, tls, ws or wss, VERSION 4 (MQTT 3.1.1) or 5. Prints `ok` at the end; the first
// thing that differs ends it with a message.
'use strict'

const fs = require('fs')
const mqtt = require('mqtt')

const [transport, port, versionText, cafile] = process.argv.slice(2)
const version = Number(versionText)
const isV5 = version === 5
const prefix = `mqttjs/${transport}/${version}`
const scheme = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss' }[transport]
const PATIENCE_MILLIS = 20_000

function fail(what) {
    console.error(`${transport}, version ${version}: ${what}`)
    process.exit(1)
}

function expect(isSo, what) {
    if (!isSo) fail(what)
}

/** What comes in an order, for whoever waits for it. */
class Queue {
    waiting = []
    items = []

    put(item) {
        const taker = this.waiting.shift()
        if (taker) taker(item)
        else this.items.push(item)
    }

    next(what) {
        if (this.items.length > 0) return Promise.resolve(this.items.shift())
        return new Promise((resolve) => {
            const timer = setTimeout(() => fail(`${what} did not come`), PATIENCE_MILLIS)
            this.waiting.push((item) => {
                clearTimeout(timer)
                resolve(item)
            })
        })
    }
}

/** A connected client; its messages wait in a queue. */
class Client {
    messages = new Queue()

    static async connect(name, { kept = false, will } = {}) {
        const client = new Client()
        const connacks = new Queue()
        client.mqtt = mqtt.connect(`${scheme}://localhost:${port}/mqtt`, {
            protocolVersion: version,
            clientId: `mqttjs-${transport}-${version}-${name}`,
            clean: !kept,
            reconnectPeriod: 0,
            will,
            ca: cafile && fs.readFileSync(cafile),
            properties: isV5 ? { sessionExpiryInterval: kept ? 600 : 0 } : undefined,
        })
        client.mqtt.on('error', (error) => fail(`${name}: ${error}`))
        client.mqtt.on('message', (topic, payload, packet) => client.messages.put(packet))
        client.mqtt.on('connect', (connack) => connacks.put(connack))
        client.sessionPresent = (await connacks.next(`CONNACK of ${name}`)).sessionPresent
        return client
    }

    async subscribe(topic, qos) {
        const [granted] = await this.mqtt.subscribeAsync(topic, { qos })
        expect(granted.qos === qos, `${topic} was granted ${granted.qos}`)
    }

    async publish(topic, payload, options) {
        await this.mqtt.publishAsync(`${prefix}/${topic}`, payload, options)
    }

    async receive(topic, payload, qos, retain = false) {
        const packet = await this.messages.next(`${topic} ${payload.slice(0, 20)}`)
        const got = JSON.stringify([packet.topic, `${packet.payload}`, packet.qos, packet.retain])
        const wanted = JSON.stringify([`${prefix}/${topic}`, payload, qos, retain])
        expect(got === wanted, `expected ${wanted}, got ${got}`.slice(0, 400))
        return packet
    }

    async leave() {
        await this.mqtt.endAsync()
    }
}

async function messagesOfEveryQos(subscriber, publisher) {
    for (const qos of [0, 1, 2]) {
        for (const payload of ['', 'hello', 'x'.repeat(300_000)]) {
            await publisher.publish(`qos${qos}`, payload, { qos })
            await subscriber.receive(`qos${qos}`, payload, qos)
        }
    }
}

async function retainedMessages(publisher) {
    await publisher.publish('retained', 'kept', { qos: 1, retain: true })
    const late = await Client.connect('late')
    await late.subscribe(`${prefix}/retained`, 1)
    await late.receive('retained', 'kept', 1, true)
    await publisher.publish('retained', '', { qos: 1, retain: true })
    await late.receive('retained', '', 1)
    const later = await Client.connect('later')
    await later.subscribe(`${prefix}/+`, 1)
    await publisher.publish('barrier', 'nothing before it', { qos: 1 })
    await later.receive('barrier', 'nothing before it', 1)
    await late.leave()
    await later.leave()
}

async function aWill(watcher) {
    const will = { topic: `${prefix}/will`, payload: Buffer.from('gone'), qos: 1, retain: false }
    const dying = await Client.connect('dying', { will })
    dying.mqtt.stream.destroy()
    await watcher.receive('will', 'gone', 1)
}

async function aSharedSubscription(publisher) {
    const members = [await Client.connect('member0'), await Client.connect('member1')]
    for (const member of members) {
        await member.subscribe(`$share/${transport}${version}/${prefix}/shared`, 1)
    }
    for (let n = 0; n < 20; n++) await publisher.publish('shared', `${n}`, { qos: 1 })
    const got = []
    for (const [place, member] of members.entries()) {
        const barrier = `barrier/${place}`
        await member.subscribe(`${prefix}/${barrier}`, 1)
        await member.publish(barrier, 'barrier', { qos: 1 })
        const mine = []
        for (;;) {
            const packet = await member.messages.next('a shared message')
            if (packet.topic === `${prefix}/${barrier}`) break
            mine.push(Number(packet.payload))
        }
        const isInOrder = mine.every((n, at) => at === 0 || mine[at - 1] < n)
        expect(mine.length > 0 && isInOrder, `a member got ${mine}`)
        got.push(...mine)
        await member.leave()
    }
    got.sort((one, other) => one - other)
    expect(got.join() === [...Array(20).keys()].join(), `together they got ${got}`)
}

async function aSessionThatWaits(publisher) {
    let kept = await Client.connect('kept', { kept: true })
    expect(!kept.sessionPresent, 'a new session was there before')
    await kept.subscribe(`${prefix}/queued`, 2)
    for (const qos of [1, 2]) {
        await kept.leave()
        for (let n = 0; n < 30; n++) await publisher.publish('queued', `message ${n}`, { qos })
        kept = await Client.connect('kept', { kept: true })
        expect(kept.sessionPresent, 'the session is gone')
        for (let n = 0; n < 30; n++) await kept.receive('queued', `message ${n}`, qos)
    }
    await kept.leave()
}

async function propertiesOf5(subscriber, publisher) {
    const properties = {
        contentType: 'text/plain',
        responseTopic: 'answers/here',
        correlationData: Buffer.from([0, 1]),
        messageExpiryInterval: 100,
        userProperties: { a: ['1', '3'], b: '2' },
    }
    await publisher.publish('properties', 'x', { qos: 1, properties })
    const got = (await subscriber.receive('properties', 'x', 1)).properties
    expect(got.contentType === 'text/plain', `contentType came as ${got.contentType}`)
    expect(got.responseTopic === 'answers/here', `responseTopic came as ${got.responseTopic}`)
    expect(got.correlationData.equals(properties.correlationData), 'correlationData has changed')
    const user = JSON.stringify(got.userProperties)
    expect(user === JSON.stringify(properties.userProperties), `userProperties came as ${user}`)
    expect(got.messageExpiryInterval > 0 && got.messageExpiryInterval <= 100, 'the expiry is gone')
}

async function main() {
    const subscriber = await Client.connect('subscriber')
    const publisher = await Client.connect('publisher')
    const watcher = await Client.connect('watcher')
    await subscriber.subscribe(`${prefix}/+`, 2)
    await watcher.subscribe(`${prefix}/will`, 1)
    await messagesOfEveryQos(subscriber, publisher)
    if (isV5) await propertiesOf5(subscriber, publisher)
    await subscriber.leave()
    await retainedMessages(publisher)
    await aWill(watcher)
    await aSharedSubscription(publisher)
    await aSessionThatWaits(publisher)
    await watcher.leave()
    await publisher.leave()
    console.log('ok')
}

main().catch((error) => fail(error.stack))
