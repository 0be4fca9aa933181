"""userName and password of a connection to Alibaba Cloud IoT Platform, as its documents describe them.

Written without a look at Sluice's own signing, on purpose: the tests use it to check that one against.
"""

import base64
import hashlib
import hmac
import time


def credentials(client_id, group, access_key, secret, instance="", now_ms=None):
    """userName and password for `authMode=aksign` with HMAC-SHA1."""
    timestamp = str(int(time.time() * 1000) if now_ms is None else now_ms)
    string_to_sign = "authId=" + access_key + "&timestamp=" + timestamp
    digest = hmac.new(secret.encode("utf-8"), string_to_sign.encode("utf-8"), hashlib.sha1).digest()
    options = [
        "authMode=aksign",
        "signMethod=hmacsha1",
        "timestamp=" + timestamp,
        "authId=" + access_key,
        "iotInstanceId=" + instance,
        "consumerGroupId=" + group,
    ]
    return client_id + "|" + ",".join(options) + "|", base64.b64encode(digest).decode("ascii")
