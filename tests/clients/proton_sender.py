"""Publishes messages of the platform's shape to a broker, with qpid-proton.

Reads one message per line of a JSON-lines file: `{"topic", "messageId", "generateTime", "payload": base64}`. Ends with
status 0 when the broker has accepted them all.
"""

import argparse
import base64
import json
import sys

from proton import Message, SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container

from aliyun_sign import credentials


def to_message(line):
    properties = {name: line[name] for name in ("topic", "messageId", "generateTime")}
    return Message(body=base64.b64decode(line["payload"]), inferred=True, durable=True, properties=properties)


class Sender(MessagingHandler):
    def __init__(self, args, messages):
        super().__init__()
        self.args = args
        self.messages = messages
        self.sent = 0
        self.accepted = 0
        self.error = None

    def on_start(self, event):
        args = self.args
        user, password = credentials("proton-sender", "none", args.access_key, args.secret)
        ssl = SSLDomain(SSLDomain.MODE_CLIENT)
        ssl.set_trusted_ca_db(args.ca)
        ssl.set_peer_authentication(SSLDomain.VERIFY_PEER_NAME)
        connection = event.container.connect(
            url="amqps://%s:%d" % (args.host, args.port),
            user=user,
            password=password,
            allowed_mechs="PLAIN",
            ssl_domain=ssl,
            sni="localhost",  # proton compares the certificate with names, never with an address
            reconnect=False,
        )
        event.container.create_sender(connection, args.address)

    def on_sendable(self, event):
        while event.sender.credit > 0 and self.sent < len(self.messages):
            event.sender.send(self.messages[self.sent])
            self.sent += 1

    def on_accepted(self, event):
        self.accepted += 1
        if self.accepted == len(self.messages):
            event.connection.close()

    def on_rejected(self, event):
        self.error = "the broker rejected a message"
        event.connection.close()

    def on_transport_error(self, event):
        self.error = self.error or str(event.transport.condition)

    def on_connection_error(self, event):
        self.error = self.error or str(event.connection.remote_condition)
        super().on_connection_error(event)

    def on_link_error(self, event):
        self.error = self.error or str(event.link.remote_condition)
        super().on_link_error(event)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--ca", required=True, help="PEM file of the authority to trust")
    parser.add_argument("--address", required=True, help="where to send, such as /amq/queue/NAME")
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--messages", required=True, help="file of JSON lines")
    args = parser.parse_args()
    with open(args.messages, encoding="utf-8") as lines:
        messages = [to_message(json.loads(line)) for line in lines]
    sender = Sender(args, messages)
    Container(sender).run()
    if sender.error is not None or sender.accepted != len(messages):
        print(sender.error or "the broker accepted %d of %d messages" % (sender.accepted, len(messages)), file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
