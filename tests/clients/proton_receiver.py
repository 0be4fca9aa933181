"""A consumer as a stranger would write it, with qpid-proton: connects, receives, accepts, prints.

Every message is printed as one line of JSON. Ends with status 0 when the wanted number of messages has been accepted and
the connection closed, and with 1 and one line on standard error when anything goes wrong.
"""

import argparse
import base64
import json
import sys

from proton import SSLDomain
from proton.handlers import MessagingHandler
from proton.reactor import Container

from aliyun_sign import credentials


class Receiver(MessagingHandler):
    def __init__(self, args):
        super().__init__(prefetch=50, auto_accept=False)
        self.args = args
        self.received = 0
        self.error = None

    def on_start(self, event):
        args = self.args
        user, password = credentials(args.client_id, args.group, args.access_key, args.secret, args.instance)
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
            heartbeat=60,
            reconnect=False,
        )
        event.container.create_receiver(connection)

    def on_message(self, event):
        message = event.message
        properties = message.properties or {}
        body = message.body
        if isinstance(body, str):
            body = body.encode("utf-8")
        line = {
            "messageId": properties.get("messageId"),
            "topic": properties.get("topic"),
            "generateTime": properties.get("generateTime"),
            "payload": base64.b64encode(bytes(body or b"")).decode("ascii"),
        }
        print(json.dumps(line), flush=True)
        self.accept(event.delivery)
        self.received += 1
        if self.received == self.args.count:
            event.receiver.close()
            event.connection.close()

    def on_transport_error(self, event):
        condition = event.transport.condition
        self.fail("%s: %s" % (condition.name, condition.description))

    def on_connection_error(self, event):
        condition = event.connection.remote_condition
        self.fail("connection: %s: %s" % (condition.name, condition.description))
        super().on_connection_error(event)

    def on_link_error(self, event):
        condition = event.link.remote_condition
        self.fail("link: %s: %s" % (condition.name, condition.description))
        super().on_link_error(event)

    def on_disconnected(self, event):
        if self.received < self.args.count:
            self.fail("the connection ended after %d of %d messages" % (self.received, self.args.count))

    def fail(self, error):
        """Keeps the first error: what follows it follows from it."""
        if self.error is None:
            self.error = error


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--ca", required=True, help="PEM file of the authority to trust")
    parser.add_argument("--group", required=True)
    parser.add_argument("--count", required=True, type=int, help="how many messages to accept before leaving")
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--instance", default="")
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--secret", required=True)
    receiver = Receiver(parser.parse_args())
    Container(receiver).run()
    if receiver.error is not None:
        print(receiver.error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
