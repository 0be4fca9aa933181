//! The HTTP clients for OpenAPI and STS: one for each set of authorities that ConsumerGroups trust.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_cloud::client::{Client, Roots, Timeouts, TlsError};
use sluice_cloud::endpoint::EndpointPolicy;

/// So many sets are kept. More, and the oldest connections are made anew: nobody needs a hundred authorities at once.
const MOST: usize = 64;

/// The clients. Clones share them.
#[derive(Clone)]
pub struct Clients {
    policy: Arc<EndpointPolicy>,
    by_ca: Arc<Mutex<HashMap<Option<Arc<str>>, Client>>>,
}

impl Clients {
    /// Clients that send nothing to where `policy` forbids it.
    pub fn new(policy: Arc<EndpointPolicy>) -> Self {
        Self { policy, by_ca: Arc::default() }
    }

    /// Where credentials may go.
    pub fn policy(&self) -> &EndpointPolicy {
        &self.policy
    }

    /// The client that trusts these certificates (PEM) alone, or the system's if there are none.
    pub fn get(&self, ca: Option<&Arc<str>>) -> Result<Client, TlsError> {
        let mut clients = self.by_ca.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&ca.cloned()) {
            return Ok(client.clone());
        }
        let roots = ca.map_or(Roots::System, |pem| Roots::Only(pem));
        let client = Client::new(roots, self.policy.clone(), Timeouts::default())?;
        if clients.len() >= MOST {
            clients.clear();
        }
        clients.insert(ca.cloned(), client.clone());
        Ok(client)
    }
}
