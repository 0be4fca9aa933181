//! The HTTP service that `RabbitMQ`'s `rabbitmq_auth_backend_http` asks whether a user may come in.
//!
//! A user name of the platform's form changes with every connection (it carries the time), so a broker can't keep a list of
//! users. This service reads the user name and really checks the password's signature, as the platform would.
//!
//! Once it has let a user in, the AMQP 1.0 plugin opens a session on that user's behalf, and the broker asks again, with the
//! user name alone. That is granted to user names which have proved themselves before, to no other.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::extract::State;
use axum::routing::post;
use axum::{Form, Router};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::ConnectIdentity;
use tokio::runtime::Runtime;

/// The service, on a thread of its own until dropped.
#[derive(Debug)]
pub struct Verifier {
    port: u16,
    verdicts: Arc<Verdicts>,
    runtime: Option<Runtime>,
}

/// What the service knows and what it has decided.
#[derive(Debug)]
struct Verdicts {
    access_key_id: String,
    secret: SecretString,
    admitted: Mutex<HashMap<String, ConnectIdentity>>,
    refused: Mutex<Vec<String>>,
}

impl Verifier {
    /// Starts the service for one AccessKey, on a loopback port of the system's choice.
    pub fn start(access_key_id: &str, secret: &str) -> Result<Self> {
        let verdicts = Arc::new(Verdicts {
            access_key_id: access_key_id.to_owned(),
            secret: SecretString::from(secret),
            admitted: Mutex::default(),
            refused: Mutex::default(),
        });
        let router = Router::new()
            .route("/user", post(user))
            .route("/vhost", post(allow))
            .route("/resource", post(allow))
            .route("/topic", post(allow))
            .with_state(Arc::clone(&verdicts));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the verifier")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let listener = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { port, verdicts, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who was let in, in no particular order.
    pub fn admitted(&self) -> Vec<ConnectIdentity> {
        self.verdicts.admitted.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Why others were not, in order.
    pub fn refused(&self) -> Vec<String> {
        self.verdicts.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the broker asks when somebody connects: `username` and `password`; and for a session, `username` alone.
async fn user(State(verdicts): State<Arc<Verdicts>>, Form(asked): Form<HashMap<String, String>>) -> &'static str {
    let user_name = asked.get("username").map(String::as_str).unwrap_or_default();
    match verdicts.judge(user_name, asked.get("password").map(String::as_str)) {
        Ok(()) => "allow",
        Err(reason) => {
            verdicts.refused.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
            "deny"
        }
    }
}

/// What somebody who is in may do: everything.
async fn allow() -> &'static str {
    "allow"
}

impl Verdicts {
    fn judge(&self, user_name: &str, password: Option<&str>) -> Result<(), String> {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(password) = password else {
            let known = admitted.contains_key(user_name);
            return known
                .then_some(())
                .ok_or_else(|| "a session for a user name that was not verified before".to_owned());
        };
        let identity = ConnectIdentity::parse(user_name).map_err(|error| error.to_string())?;
        if identity.access_key_id != self.access_key_id {
            return Err(format!("unknown access key {}", identity.access_key_id));
        }
        if !identity.verify(&self.secret, password) {
            return Err("the password is not the signature of the user name".to_owned());
        }
        admitted.insert(user_name.to_owned(), identity);
        Ok(())
    }
}
