//! What accounts have on the platform apart from messages: instances, their consumer groups by ID and name, and the
//! subscriptions of their products (PLATFORM.md 1.8, 1.10, 4). Values only; the messages are [`crate::platform`]'s.
//!
//! A group is known to the rest of the emulator by its *address*: its ID alone in the first instance, `INSTANCE/ID` in
//! the others, since every instance has a `DEFAULT_GROUP`.

mod error;
mod quotas;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use sluice_cloud::topic;

pub(crate) use self::error::InstanceError;
pub(crate) use self::quotas::Quotas;
pub(crate) use self::subscription::{Channel, Flag, Flags, Subscription};

/// The ID of the group that every instance has, and that can be neither renamed nor deleted.
pub(crate) const DEFAULT_GROUP: &str = "DEFAULT_GROUP";

/// A group, apart from its messages and clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupEntry {
    /// Its name, for people.
    pub(crate) name: String,
    /// When it was made, in Unix ms.
    pub(crate) created_unix_ms: u64,
}

/// What one instance is configured with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Its ID; empty for a legacy public instance, which has none.
    pub(crate) id: String,
    /// The account it belongs to.
    pub(crate) account: String,
    /// Its groups, by ID, besides [`DEFAULT_GROUP`].
    pub(crate) groups: Vec<String>,
    /// Its products; any product key is one when this is empty.
    pub(crate) products: Vec<String>,
}

#[derive(Debug)]
struct Instance {
    id: String,
    account: String,
    products: BTreeSet<String>,
    groups: BTreeMap<String, GroupEntry>,
    subscriptions: BTreeMap<(String, Channel), Subscription>,
}

/// One instance among the others. Only [`Instances`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InstanceKey(usize);

/// All instances. See the module.
#[derive(Debug)]
pub(crate) struct Instances {
    list: Vec<Instance>,
    quotas: Quotas,
    rng: SmallRng,
}

impl Instances {
    pub(crate) fn new(setups: Vec<Setup>, quotas: Quotas, seed: u64, now_unix_ms: u64) -> Self {
        let entry = |id: String| (id.clone(), GroupEntry { name: id, created_unix_ms: now_unix_ms });
        let list = setups.into_iter().map(|setup| Instance {
            id: setup.id,
            account: setup.account,
            products: setup.products.into_iter().collect(),
            groups: setup.groups.into_iter().chain([DEFAULT_GROUP.to_owned()]).map(entry).collect(),
            subscriptions: BTreeMap::new(),
        });
        Self { list: list.collect(), quotas, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The addresses of all groups.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let keys = (0..self.list.len()).map(InstanceKey);
        keys.flat_map(|key| self.instance(key).groups.keys().map(move |id| self.address(key, id))).collect()
    }

    /// A group's address. See the module.
    pub(crate) fn address(&self, key: InstanceKey, group_id: &str) -> String {
        if key.0 == 0 { group_id.to_owned() } else { format!("{}/{group_id}", self.instance(key).id) }
    }

    fn instance(&self, key: InstanceKey) -> &Instance {
        &self.list[key.0]
    }

    fn instance_mut(&mut self, key: InstanceKey) -> &mut Instance {
        &mut self.list[key.0]
    }

    /// The instance with this ID, whosever it is. None at all means the one without an ID.
    pub(crate) fn find(&self, id: Option<&str>) -> Result<InstanceKey, InstanceError> {
        let wanted = id.unwrap_or_default();
        let found = self.list.iter().position(|instance| instance.id == wanted).map(InstanceKey);
        found.ok_or_else(|| match wanted {
            "" => InstanceError::InstanceLeftOut,
            id => InstanceError::NoInstance(id.to_owned()),
        })
    }

    /// The same, if its account is one for which the caller may act.
    pub(crate) fn find_for(
        &self,
        may_act_for: impl FnOnce(&str) -> bool,
        id: Option<&str>,
    ) -> Result<InstanceKey, InstanceError> {
        let key = self.find(id)?;
        if may_act_for(self.account(key)) {
            Ok(key)
        } else {
            Err(InstanceError::OtherAccount(self.instance(key).id.clone()))
        }
    }

    /// The account that an instance belongs to.
    pub(crate) fn account(&self, key: InstanceKey) -> &str {
        &self.instance(key).account
    }

    /// A group.
    pub(crate) fn group(&self, key: InstanceKey, id: &str) -> Result<&GroupEntry, InstanceError> {
        self.instance(key).groups.get(id).ok_or_else(|| InstanceError::NoGroup(id.to_owned()))
    }

    /// The groups of an instance, the newest first.
    pub(crate) fn groups(&self, key: InstanceKey) -> Vec<(&str, &GroupEntry)> {
        let mut groups: Vec<_> = self.instance(key).groups.iter().map(|(id, entry)| (id.as_str(), entry)).collect();
        groups.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.created_unix_ms));
        groups
    }

    /// Makes a group, and returns its ID.
    pub(crate) fn create_group(
        &mut self,
        key: InstanceKey,
        name: &str,
        now_unix_ms: u64,
    ) -> Result<String, InstanceError> {
        self.check_name(key, name)?;
        let account = self.account(key);
        let owned = self.list.iter().filter(|instance| instance.account == account);
        self.quotas.check_groups_of_account(owned.map(|instance| instance.groups.len()).sum::<usize>() + 1)?;
        let id = loop {
            let random = (0..20).map(|_| char::from(self.rng.sample(rand::distr::Alphanumeric)));
            let id: String = random.chain("000100".chars()).collect();
            if !self.instance(key).groups.contains_key(&id) {
                break id;
            }
        };
        let entry = GroupEntry { name: name.to_owned(), created_unix_ms: now_unix_ms };
        self.instance_mut(key).groups.insert(id.clone(), entry);
        Ok(id)
    }

    /// Gives a group another name.
    pub(crate) fn rename_group(&mut self, key: InstanceKey, id: &str, name: &str) -> Result<(), InstanceError> {
        if id == DEFAULT_GROUP {
            return Err(InstanceError::DefaultGroup("renamed"));
        }
        if self.group(key, id)?.name != name {
            self.check_name(key, name)?;
        }
        if let Some(entry) = self.instance_mut(key).groups.get_mut(id) {
            name.clone_into(&mut entry.name);
        }
        Ok(())
    }

    /// Deletes a group that no subscription has.
    pub(crate) fn delete_group(&mut self, key: InstanceKey, id: &str) -> Result<(), InstanceError> {
        if id == DEFAULT_GROUP {
            return Err(InstanceError::DefaultGroup("deleted"));
        }
        self.group(key, id)?;
        if let Some(product) = self.products_of(key, id).next() {
            return Err(InstanceError::GroupInUse(product.to_owned()));
        }
        self.instance_mut(key).groups.remove(id);
        Ok(())
    }

    fn check_name(&self, key: InstanceKey, name: &str) -> Result<(), InstanceError> {
        let width: usize = name.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
        if !(4..=30).contains(&width) || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return Err(InstanceError::GroupName);
        }
        if self.instance(key).groups.values().any(|entry| entry.name == name) {
            return Err(InstanceError::GroupNameTaken(name.to_owned()));
        }
        Ok(())
    }

    fn products_of(&self, key: InstanceKey, group_id: &str) -> impl Iterator<Item = &str> {
        let subscriptions = self.instance(key).subscriptions.iter();
        subscriptions
            .filter(move |(_, subscription)| subscription.groups.iter().any(|id| id == group_id))
            .map(|((product, _), _)| product.as_str())
    }

    /// Whether an instance has a product.
    pub(crate) fn check_product(&self, key: InstanceKey, product: &str) -> Result<(), InstanceError> {
        let products = &self.instance(key).products;
        if product.is_empty() || !products.is_empty() && !products.contains(product) {
            return Err(InstanceError::NoProduct(product.to_owned()));
        }
        Ok(())
    }

    /// A product's subscription.
    pub(crate) fn subscription(
        &self,
        key: InstanceKey,
        product: &str,
        channel: Channel,
    ) -> Result<&Subscription, InstanceError> {
        self.check_product(key, product)?;
        let found = self.instance(key).subscriptions.get(&(product.to_owned(), channel));
        found.ok_or_else(|| InstanceError::NotSubscribed(product.to_owned(), channel))
    }

    /// Subscribes a product that is not subscribed with this type yet (`create`), or replaces the subscription that it
    /// has, flags and groups and all.
    pub(crate) fn subscribe(
        &mut self,
        key: InstanceKey,
        product: &str,
        channel: Channel,
        subscription: Subscription,
        create: bool,
    ) -> Result<(), InstanceError> {
        match (self.subscription(key, product, channel), create) {
            (Ok(_), true) => return Err(InstanceError::AlreadySubscribed(product.to_owned(), channel)),
            (Ok(_), false) | (Err(InstanceError::NotSubscribed(..)), true) => {}
            (Err(error), _) => return Err(error),
        }
        if subscription.flags.is_empty() {
            return Err(InstanceError::NoFlags);
        }
        let out_of_place = |flag: &Flag| subscription.flags.has(*flag) && !flag.goes_with(channel);
        if let Some(flag) = Flag::ALL.into_iter().find(out_of_place) {
            return Err(InstanceError::AmqpOnly(flag.parameter()));
        }
        match channel {
            Channel::Amqp if subscription.groups.is_empty() => return Err(InstanceError::NoGroups),
            Channel::Mns if subscription.mns.is_empty() => return Err(InstanceError::NoMnsConfiguration),
            Channel::Amqp | Channel::Mns => {}
        }
        for (index, group) in subscription.groups.iter().enumerate() {
            if subscription.groups[..index].contains(group) {
                return Err(InstanceError::AlreadyPart(group.clone()));
            }
            self.check_part(key, product, group)?;
        }
        self.quotas.check_groups_of_product(subscription.groups.len())?;
        self.instance_mut(key).subscriptions.insert((product.to_owned(), channel), subscription);
        Ok(())
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(
        &mut self,
        key: InstanceKey,
        product: &str,
        channel: Channel,
    ) -> Result<(), InstanceError> {
        self.subscription(key, product, channel)?;
        self.instance_mut(key).subscriptions.remove(&(product.to_owned(), channel));
        Ok(())
    }

    /// Makes a group part of a product's AMQP subscription.
    pub(crate) fn add_part(&mut self, key: InstanceKey, product: &str, group: &str) -> Result<(), InstanceError> {
        let groups = &self.subscription(key, product, Channel::Amqp)?.groups;
        if groups.iter().any(|id| id == group) {
            return Err(InstanceError::AlreadyPart(group.to_owned()));
        }
        self.quotas.check_groups_of_product(groups.len() + 1)?;
        self.check_part(key, product, group)?;
        self.parts(key, product, |groups| groups.push(group.to_owned()));
        Ok(())
    }

    /// Takes a group out of a product's AMQP subscription, unless it is the last one.
    pub(crate) fn remove_part(&mut self, key: InstanceKey, product: &str, group: &str) -> Result<(), InstanceError> {
        let groups = &self.subscription(key, product, Channel::Amqp)?.groups;
        if !groups.iter().any(|id| id == group) {
            return Err(InstanceError::NotPart(group.to_owned()));
        }
        if groups.len() == 1 {
            return Err(InstanceError::LastGroup);
        }
        self.parts(key, product, |groups| groups.retain(|id| id != group));
        Ok(())
    }

    fn parts(&mut self, key: InstanceKey, product: &str, change: impl FnOnce(&mut Vec<String>)) {
        let found = self.instance_mut(key).subscriptions.get_mut(&(product.to_owned(), Channel::Amqp));
        if let Some(subscription) = found {
            change(&mut subscription.groups);
        }
    }

    fn check_part(&self, key: InstanceKey, product: &str, group: &str) -> Result<(), InstanceError> {
        self.group(key, group)?;
        let others = self.products_of(key, group).filter(|other| *other != product).count();
        self.quotas.check_products_of_group(others + 1)
    }

    /// Where every message goes, as long as that is so: no product is subscribed to, and there is one instance.
    pub(crate) fn only_route(&self) -> Option<&'static str> {
        matches!(&self.list[..], [only] if only.subscriptions.is_empty()).then_some(DEFAULT_GROUP)
    }

    /// Every subscription: instance ID, product, type.
    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = (&str, &str, Channel, &Subscription)> {
        self.list.iter().flat_map(|instance| {
            let subscriptions = instance.subscriptions.iter();
            subscriptions.map(|((product, channel), it)| (instance.id.as_str(), product.as_str(), *channel, it))
        })
    }

    /// The addresses of the groups that a message under this topic is pushed to. A product without an AMQP subscription has
    /// the default group of its instance for one, so that the quick start needs no `OpenAPI`; that is the first instance if
    /// no other names the product.
    pub(crate) fn route(&self, topic: &str) -> Vec<String> {
        let parsed = topic::parse(topic);
        let product = parsed.product_key.or_else(|| topic.split('/').nth(1)).unwrap_or_default();
        let flag = Flag::of(parsed.kind);
        let key = (product.to_owned(), Channel::Amqp);
        let mut route = None;
        for (index, instance) in self.list.iter().enumerate() {
            let Some(subscription) = instance.subscriptions.get(&key) else { continue };
            let addresses = route.get_or_insert_with(Vec::new);
            if subscription.flags.has(flag) {
                addresses.extend(subscription.groups.iter().map(|id| self.address(InstanceKey(index), id)));
            }
        }
        let home = || self.list.iter().position(|instance| instance.products.contains(product)).unwrap_or_default();
        route.unwrap_or_else(|| vec![self.address(InstanceKey(home()), DEFAULT_GROUP)])
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use self::tests::single;
