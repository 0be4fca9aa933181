// A consumer as a stranger would write it, with rhea: connects, receives, accepts, prints.
//
// Every message is printed as one line of JSON. Ends with status 0 when the wanted number of messages has been accepted and
// the connection closed, and with 1 and one line on standard error when anything goes wrong that a reconnect can't mend.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const { parseArgs } = require('node:util');
const container = require('rhea');

const { values: args } = parseArgs({
  options: {
    host: { type: 'string' },
    port: { type: 'string' },
    ca: { type: 'string' }, // PEM file of the authority to trust
    group: { type: 'string' },
    count: { type: 'string' }, // how many messages to accept before leaving
    'client-id': { type: 'string' },
    instance: { type: 'string', default: '' },
    'access-key': { type: 'string' },
    secret: { type: 'string' },
    'reconnect-after': { type: 'string' }, // close after so many messages, and go on with another connection
  },
});

// userName and password as the platform's documents describe them, with HMAC-SHA256. Written without a look at any other
// signing here, on purpose.
function credentials() {
  const signed = { authId: args['access-key'], timestamp: String(Date.now()) };
  const text = Object.keys(signed).sort().map((key) => `${key}=${signed[key]}`).join('&');
  const options = {
    authMode: 'aksign',
    signMethod: 'hmacsha256',
    consumerGroupId: args.group,
    iotInstanceId: args.instance,
    ...signed,
  };
  const listed = Object.entries(options).map(([key, value]) => `${key}=${value}`).join(',');
  return {
    username: `${args['client-id']}|${listed}|`,
    password: crypto.createHmac('sha256', args.secret).update(text, 'utf8').digest('base64'),
  };
}

const wanted = Number(args.count);
const firstPart = args['reconnect-after'] === undefined ? wanted : Number(args['reconnect-after']);
let received = 0;
let reconnected = false;

function connect() {
  const connection = container.connect({
    ...credentials(),
    host: args.host,
    port: Number(args.port),
    transport: 'tls',
    servername: 'localhost', // an address is no name, says TLS
    ca: fs.readFileSync(args.ca),
    idle_time_out: 60000,
    reconnect: true,
  });
  // Without an address, and with as much credit as rhea gives by itself.
  connection.open_receiver({ autoaccept: false });
}

function fail(what, error) {
  console.error(`${what}: ${error}`);
  process.exit(1);
}

container.on('message', ({ message, delivery, receiver, connection }) => {
  const last = reconnected ? wanted : firstPart;
  if (received >= last) {
    return; // It came before the close was heard, and is not answered for.
  }
  const properties = message.application_properties ?? {};
  const body = message.body?.content ?? message.body ?? '';
  console.log(
    JSON.stringify({
      messageId: properties.messageId,
      topic: properties.topic,
      generateTime: properties.generateTime,
      payload: Buffer.from(body).toString('base64'),
    }),
  );
  delivery.accept();
  received += 1;
  if (received === last) {
    receiver.close();
    connection.close();
  }
});

container.on('connection_close', () => {
  if (received < wanted && received === firstPart && !reconnected) {
    reconnected = true;
    connect();
  }
});

container.on('connection_error', ({ connection }) => console.error(`connection: ${connection.error}`));
container.on('receiver_error', ({ receiver }) => fail('link', receiver.error));
container.on('disconnected', ({ error, reconnecting }) => {
  if (!reconnecting && received < wanted && !(received === firstPart && !reconnected)) {
    fail('the connection ended', error ?? `after ${received} of ${wanted} messages`);
  }
});

connect();
