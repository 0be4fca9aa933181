//! How much an account may have.

use super::InstanceError;
use crate::rules::{Rule, Rules};

/// How much there may be of everything. PLATFORM.md 1.8 has the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quotas {
    /// Groups that one product is pushed to.
    pub(crate) groups_per_product: usize,
    /// Products that are pushed to one group.
    pub(crate) products_per_group: usize,
    /// Groups of one account.
    pub(crate) groups_per_account: usize,
    /// Which of these are heeded.
    pub(crate) rules: Rules,
}

impl Quotas {
    /// Whether a product may be pushed to so many groups.
    pub(super) fn check_groups_of_product(&self, count: usize) -> Result<(), InstanceError> {
        let limit = self.groups_per_product;
        let fits = count <= limit || !self.rules.keeps(Rule::GroupsPerProduct);
        if fits { Ok(()) } else { Err(InstanceError::TooManyGroupsOfProduct(limit)) }
    }

    /// Whether so many products may be pushed to a group.
    pub(super) fn check_products_of_group(&self, count: usize) -> Result<(), InstanceError> {
        let limit = self.products_per_group;
        let fits = count <= limit || !self.rules.keeps(Rule::ProductsPerGroup);
        if fits { Ok(()) } else { Err(InstanceError::TooManyProductsOfGroup(limit)) }
    }

    /// Whether an account may have so many groups.
    pub(super) fn check_groups_of_account(&self, count: usize) -> Result<(), InstanceError> {
        let limit = self.groups_per_account;
        let fits = count <= limit || !self.rules.keeps(Rule::GroupsPerAccount);
        if fits { Ok(()) } else { Err(InstanceError::TooManyGroups(limit)) }
    }
}
