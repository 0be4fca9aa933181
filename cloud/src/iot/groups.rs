//! Consumer groups: which there are. The default group, `DEFAULT_GROUP`, is among them.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::Instance;
use crate::answer::{Action, Unreadable, parse};
use crate::rpc::{Call, parse_timestamp};

/// A consumer group, as the platform knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Its ID, which is what connections and calls name.
    pub id: String,
    /// Its name, for people.
    pub name: Option<String>,
    /// When it was made.
    pub created: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GroupWire {
    group_id: String,
    #[serde(default)]
    group_name: Option<String>,
    #[serde(default)]
    create_time: Option<Value>,
}

impl From<GroupWire> for ConsumerGroup {
    fn from(wire: GroupWire) -> Self {
        let created = wire.create_time.as_ref().and_then(Value::as_str).and_then(parse_timestamp);
        Self { id: wire.group_id, name: wire.group_name, created }
    }
}

/// Asks for one group. It changes nothing and needs little, so it also tells whether a credential is good.
#[derive(Clone, Debug)]
pub struct QueryConsumerGroupByGroupId {
    /// Where.
    pub instance: Instance,
    /// Which group.
    pub group_id: String,
}

impl Action for QueryConsumerGroupByGroupId {
    const NAME: &'static str = "QueryConsumerGroupByGroupId";
    type Answer = ConsumerGroup;

    fn call(&self) -> Call {
        self.instance.call(Self::NAME, [("GroupId", self.group_id.clone())])
    }

    fn read(&self, body: &[u8]) -> Result<ConsumerGroup, Unreadable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            data: GroupWire,
        }
        Ok(parse::<Answer>(body)?.data.into())
    }
}

/// How many groups a page of [`QueryConsumerGroupList`] has: 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

impl PageSize {
    /// The largest page.
    pub const MAX: Self = Self(1000);

    /// `None` if it is not from 1 to 1000.
    pub fn try_new(groups: u16) -> Option<Self> {
        (1..=Self::MAX.0).contains(&groups).then_some(Self(groups))
    }
}

/// Asks for the groups of an instance, page by page.
#[derive(Clone, Debug)]
pub struct QueryConsumerGroupList {
    /// Where.
    pub instance: Instance,
    /// Which page, counted from 1.
    pub page: u32,
    /// How long a page is.
    pub page_size: PageSize,
    /// Only groups whose name contains this.
    pub name_contains: Option<String>,
}

/// A page of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupPage {
    /// The groups on it.
    pub groups: Vec<ConsumerGroup>,
    /// How many pages there are.
    pub pages: u32,
}

impl Action for QueryConsumerGroupList {
    const NAME: &'static str = "QueryConsumerGroupList";
    type Answer = ConsumerGroupPage;

    fn call(&self) -> Call {
        let mut own = vec![("CurrentPage", self.page.max(1).to_string()), ("PageSize", self.page_size.0.to_string())];
        if let Some(name) = &self.name_contains {
            own.push(("Fuzzy", "true".to_owned()));
            own.push(("GroupName", name.clone()));
        }
        self.instance.call(Self::NAME, own)
    }

    fn read(&self, body: &[u8]) -> Result<ConsumerGroupPage, Unreadable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            data: Option<Data>,
            page_count: u32,
        }
        #[derive(Deserialize)]
        struct Data {
            #[serde(rename = "ConsumerGroupDTO", default)]
            groups: Vec<GroupWire>,
        }
        let answer: Answer = parse(body)?;
        let groups = answer.data.map(|data| data.groups).unwrap_or_default();
        Ok(ConsumerGroupPage { groups: groups.into_iter().map(Into::into).collect(), pages: answer.page_count })
    }
}

/// Makes a group.
#[derive(Clone, Debug)]
pub struct CreateConsumerGroup {
    /// Where.
    pub instance: Instance,
    /// Its name: 4 to 30 characters, of which Chinese ones count twice.
    pub name: String,
}

impl Action for CreateConsumerGroup {
    const NAME: &'static str = "CreateConsumerGroup";
    /// The new group's ID.
    type Answer = String;

    fn call(&self) -> Call {
        self.instance.call(Self::NAME, [("GroupName", self.name.clone())])
    }

    fn read(&self, body: &[u8]) -> Result<String, Unreadable> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            group_id: String,
        }
        Ok(parse::<Answer>(body)?.group_id)
    }
}

/// Removes a group, once no product is subscribed to it. The default group stays.
#[derive(Clone, Debug)]
pub struct DeleteConsumerGroup {
    /// Where.
    pub instance: Instance,
    /// Which group.
    pub group_id: String,
}

impl Action for DeleteConsumerGroup {
    const NAME: &'static str = "DeleteConsumerGroup";
    type Answer = ();

    fn call(&self) -> Call {
        self.instance.call(Self::NAME, [("GroupId", self.group_id.clone())])
    }

    fn read(&self, _: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }
}
