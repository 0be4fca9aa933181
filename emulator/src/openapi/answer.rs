//! What the gateway answers: a status and a document, in JSON or in XML, the same either way (PLATFORM.md 4).

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// How an answer is written. XML is the platform's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// Reads a `Format`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "JSON" => Some(Self::Json),
            "XML" => Some(Self::Xml),
            _ => None,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }
}

/// A refusal by the gateway: 4xx or 5xx, a code, and words. The codes are those that Alibaba Cloud's APIs have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// A parameter that must be there is not.
    pub(super) fn missing(name: &str) -> Self {
        let words =
            format!("The input parameter \"{name}\" that is mandatory for processing this request is not supplied.");
        Self::new(400, "MissingParameter", words)
    }

    /// A parameter that can't be what it is.
    pub(super) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    fn document(&self, host: &str) -> Map<String, Value> {
        let mut document = Map::new();
        document.insert("HostId".to_owned(), json!(host));
        document.insert("Code".to_owned(), json!(self.code));
        document.insert("Message".to_owned(), json!(self.message));
        document
    }
}

/// An answer, ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// How long the caller waits for it.
    pub(super) after: Duration,
    root: String,
    document: Map<String, Value>,
}

impl Answer {
    /// A call that came through to its action. `root` is the XML document's element.
    pub(super) fn new(root: impl Into<String>, document: Map<String, Value>) -> Self {
        Self { status: 200, after: Duration::ZERO, root: root.into(), document }
    }

    /// A call that did not.
    pub(super) fn refused(refusal: &Refusal, host: &str) -> Self {
        let (status, root) = (refusal.status, "Error".to_owned());
        Self { status, after: Duration::ZERO, root, document: refusal.document(host) }
    }

    /// The same, known only this long after the call.
    pub(super) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The text of it, under this request ID.
    pub(super) fn write(mut self, format: Format, request_id: &str) -> String {
        self.document.insert("RequestId".to_owned(), json!(request_id));
        match format {
            Format::Json => Value::Object(self.document).to_string(),
            Format::Xml => {
                let mut text = String::from("<?xml version='1.0' encoding='UTF-8'?>");
                element(&mut text, &self.root, &Value::Object(self.document));
                text
            }
        }
    }
}

/// Writes an element. A list of documents repeats the element, a list of plain values has one `e` for each.
fn element(text: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value
        && items.iter().any(Value::is_object)
    {
        for item in items {
            element(text, name, item);
        }
        return;
    }
    let _ = write!(text, "<{name}>"); // Writing to a string can't fail, here and below.
    match value {
        Value::Null => {}
        Value::Bool(value) => {
            let _ = write!(text, "{value}");
        }
        Value::Number(value) => {
            let _ = write!(text, "{value}");
        }
        Value::String(value) => escape(text, value),
        Value::Array(items) => items.iter().for_each(|item| element(text, "e", item)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| element(text, name, value)),
    }
    let _ = write!(text, "</{name}>");
}

fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            // What XML 1.0 can't say at all, not even escaped.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(document: Value) -> Answer {
        let Value::Object(document) = document else { panic!("a document") };
        Answer::new("XResponse", document)
    }

    #[test]
    fn xml_has_the_shape_of_the_vendors_examples() {
        let list =
            json!({"Data": {"DTO": [{"Id": "a"}, {"Id": "b"}]}, "Ids": ["x", "y"], "None": [], "Ok": true, "N": 7});
        let xml = answer(list).write(Format::Xml, "R");
        let expected = "<?xml version='1.0' encoding='UTF-8'?><XResponse>\
            <Data><DTO><Id>a</Id></DTO><DTO><Id>b</Id></DTO></Data>\
            <Ids><e>x</e><e>y</e></Ids><N>7</N><None></None><Ok>true</Ok><RequestId>R</RequestId></XResponse>";
        assert_eq!(xml, expected);
    }

    #[test]
    fn text_can_t_break_out_of_its_element() {
        let xml = answer(json!({"Name": "<a>&\"\u{1}"})).write(Format::Xml, "R");
        assert!(xml.contains("<Name>&lt;a&gt;&amp;&quot;\u{fffd}</Name>"), "{xml}");
    }

    #[test]
    fn a_refusal_says_code_message_request_and_host() {
        let refusal = Refusal::new(400, "Throttling.User", "Request was denied due to user flow control.");
        let answer = Answer::refused(&refusal, "iot.example");
        assert_eq!(answer.status, 400);
        let json: Value = serde_json::from_str(&answer.clone().write(Format::Json, "R")).unwrap();
        let expected = json!({"Code": "Throttling.User", "HostId": "iot.example", "RequestId": "R",
            "Message": "Request was denied due to user flow control."});
        assert_eq!(json, expected);
        assert!(answer.write(Format::Xml, "R").contains("<Error><Code>Throttling.User</Code>"));
    }
}
