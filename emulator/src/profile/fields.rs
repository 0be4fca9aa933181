//! The fields of a profile, in words.

use std::fmt::Write as _;

/// One question that the documents leave open.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in a profile file.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// What is known and what is not. Numbers are chapters of PLATFORM.md.
    pub silence: &'static str,
    /// Its values, the default first.
    pub values: &'static [(&'static str, &'static str)],
}

const REDELIVERY: &[(&str, &str)] = &[
    ("AfterRetry", "it is pushed again after limits.retryAfter"),
    ("AtOnce", "it is pushed again at once"),
    ("Never", "it is dropped"),
];

const OVERFLOW: &[(&str, &str)] = &[
    ("Wait", "it waits for limits.realTimeWait, then goes to the backlog"),
    ("Backlog", "it goes to the backlog at once"),
];

/// Every field, in the order of the file.
pub static FIELDS: &[Field] = &[
    Field {
        name: "released",
        about: "What becomes of a message that the client released",
        silence: "The cloud log knows the outcome (9651); what follows from it is not documented (1.7, 1.9).",
        values: REDELIVERY,
    },
    Field {
        name: "rejected",
        about: "What becomes of a message that the client rejected",
        silence: "The cloud log knows the outcome (9652); what follows from it is not documented (1.7, 1.9).",
        values: REDELIVERY,
    },
    Field {
        name: "modified",
        about: "What becomes of a message that the client modified",
        silence: "The documents do not mention the outcome (1.7).",
        values: REDELIVERY,
    },
    Field {
        name: "lateAnswer",
        about: "What an answer means that comes after the ACK timeout",
        silence: "A message not answered for in 30 s is pushed again; whether the platform still heeds an answer that comes \
                  between is not documented (1.7).",
        values: &[
            ("Ignored", "nothing: the message is pushed again"),
            ("Counts", "what it says, as long as the message has not been pushed again"),
        ],
    },
    Field {
        name: "surplusClient",
        about: "What becomes of a client beyond the limit of its group",
        silence: "Only the cloud log's code is documented (9600, \"clear surplus\"); not what the client sees (1.8).",
        values: &[
            ("Open", "its Open is answered with a Close"),
            ("Sasl", "SASL refuses it as it refuses wrong credentials (auth)"),
            ("SaslTemporary", "SASL refuses it for the time being (sys-temp)"),
            ("Attach", "its link is refused"),
            ("Starved", "it attaches and never gets a message"),
            ("EvictsOldest", "it comes in, and the oldest client of the group is closed"),
        ],
    },
    Field {
        name: "surplusAttempt",
        about: "Where an attempt to connect beyond the rate is refused",
        silence: "100 attempts a minute and group; what one more sees is not documented (1.8).",
        values: &[
            ("Open", "its Open is answered with a Close"),
            ("Sasl", "SASL refuses it as it refuses wrong credentials (auth)"),
        ],
    },
    Field {
        name: "clientsCounted",
        about: "What is counted against the limit of clients",
        silence: "The documents say clients, and connections elsewhere (1.8, 10.1, 10.2).",
        values: &[
            ("Connections", "connections"),
            ("ClientIds", "client IDs: connections of the same one are one client"),
        ],
    },
    Field {
        name: "sameClientId",
        about: "What happens when a client ID comes that is connected already",
        silence: "It is recommended to be unique; what happens if it is not is not documented (1.4).",
        values: &[("BothStay", "both connections stay"), ("ClosesOlder", "the older connection is closed")],
    },
    Field {
        name: "withoutCredit",
        about: "What becomes of a real-time message while no client has credit",
        silence: "\"On throttle or failure\" a message goes to the backlog; how soon is not documented (1.7).",
        values: OVERFLOW,
    },
    Field {
        name: "throttled",
        about: "What becomes of a real-time message while every client with credit is at its rate",
        silence: "\"On throttle or failure\" a message goes to the backlog; how soon is not documented (1.7).",
        values: OVERFLOW,
    },
    Field {
        name: "pushRate",
        about: "What the rate of real-time pushes is a rate of",
        silence: "The documents contradict each other: connection (2024) or group (2020) (1.8, 10.3).",
        values: &[("PerConnection", "each connection has it"), ("PerGroup", "the connections of a group share it")],
    },
    Field {
        name: "chosenClient",
        about: "Among which clients the one is drawn that a message goes to",
        silence: "\"Randomly forwarded to one of the servers\"; whether one that can't take it is passed over is not \
                  documented (1.6).",
        values: &[
            ("Able", "those with credit and within their rate"),
            ("Any", "all with a link; if the one drawn can't take it, withoutCredit or throttled decides"),
        ],
    },
    Field {
        name: "backlogOrder",
        about: "What a message that keeps failing does to the backlog",
        silence: "Messages that fail \"may block the queue\"; when they do is not documented (1.7).",
        values: &[
            ("FailedPass", "it waits for its next try, and others pass it"),
            ("FailedBlock", "what came to the backlog after it waits for it"),
        ],
    },
    Field {
        name: "dispositionRanges",
        about: "How much of a disposition's range is heeded",
        silence: "AMQP allows a range; no sample of the vendor's sends one (2).",
        values: &[("All", "all of it"), ("FirstOnly", "its first delivery; the others run into the ACK timeout")],
    },
    Field {
        name: "tokenExpiry",
        about: "What the expiry of a security token does to the connection made with it",
        silence: "Not documented (1.4).",
        values: &[("LivesOn", "nothing"), ("Closes", "it is closed")],
    },
    Field {
        name: "stsKey",
        about: "Which access key a connection with a security token names and signs with",
        silence: "The documents say: that of the user who assumes the role. STS's own rule is the temporary one (1.4, 10.6).",
        values: &[
            ("Temporary", "the one that came with the token"),
            ("Owner", "that of the user who assumed the role"),
        ],
    },
    Field {
        name: "timestamp",
        about: "How strictly the timestamp of a user name is looked at",
        silence: "\"Current time\", but samples of the vendor's send constants (1.4, 10.8).",
        values: &[
            ("Any", "any will do"),
            ("Fresh", "it must be within limits.timestampWindow of the platform's clock"),
        ],
    },
    Field {
        name: "saslFrame",
        about: "How large a SASL frame may be",
        silence: "AMQP allows 512 bytes, and a security token does not fit; that the platform takes it is inferred (1.4).",
        values: &[("AnySize", "as large as any frame"), ("Within512", "512 bytes; a larger one ends the connection")],
    },
    Field {
        name: "openIdleTimeOut",
        about: "The idle-time-out in the platform's Open",
        silence: "Only the client's is documented (1.1).",
        values: &[("Half", "half of the client's"), ("Absent", "none"), ("Equal", "the client's own")],
    },
    Field {
        name: "openProperties",
        about: "How large the properties in the platform's Open are",
        silence: "Not documented (1.5).",
        values: &[("Small", "a few bytes"), ("Large", "some 4 KiB: the Open does not fit in 512 bytes")],
    },
    Field {
        name: "tlsVersions",
        about: "Which versions of TLS there are",
        silence: "Not documented for AMQP (1.1).",
        values: &[("Both", "1.2 and 1.3"), ("Only12", "1.2 alone")],
    },
    Field {
        name: "generateTime",
        about: "What generateTime is among the application properties",
        silence: "A number, of which type is not documented (1.6).",
        values: &[("Long", "a long"), ("String", "a string of digits")],
    },
    Field {
        name: "messageId",
        about: "Whether message-id is among the standard properties",
        silence: "A sample of the vendor's reads it; whether it is there is not documented (1.6).",
        values: &[("Absent", "it is not"), ("Present", "it is, and equals messageId")],
    },
    Field {
        name: "closingWords",
        about: "What a Close or Detach of the platform's says",
        silence: "No condition is documented (1.9). Those of Vendor are invented: their point is that nobody knows them.",
        values: &[
            ("Standard", "a condition of AMQP's, and a description"),
            ("Vendor", "a condition of its own such as iot:9602, and a description"),
            ("Bare", "no error at all"),
        ],
    },
];

/// See [`Profile::commented`](super::Profile::commented).
pub(super) fn commented() -> String {
    let mut text = String::from(
        "# What the emulator does where the platform's documents are silent. Each field has its default here; what may stand\n\
         # in its place is said above it. Numbers are chapters of PLATFORM.md. Use: sluice-emulator run --profile FILE\n",
    );
    for field in FIELDS {
        // Writing to a string can't fail.
        let _ = writeln!(text, "\n# {}.\n# {}", field.about, field.silence);
        for (value, meaning) in field.values {
            let _ = writeln!(text, "#   {value}: {meaning}");
        }
        let _ = writeln!(text, "{}: {}", field.name, field.values[0].0);
    }
    text
}
