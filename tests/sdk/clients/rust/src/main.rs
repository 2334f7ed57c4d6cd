//! A client with AWS SDK for Rust: one configuration, and one client that keeps its credentials, as in an application.
//!
//! It reads one question per line on stdin, and writes one JSON line per answer to stdout (see ../answering.py).

use std::error::Error;
use std::io::stdin;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_types::error::display::DisplayErrorContext;
use serde_json::{json, Value};

type Told = Result<Value, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let sts = aws_sdk_sts::Client::new(&config);
    for line in stdin().lines() {
        let told = match line.expect("stdin is text").as_str() {
            "whoami" => whoami(&sts).await,
            _ => get(&config).await,
        };
        let answer = told.unwrap_or_else(
            |error| json!({ "error": DisplayErrorContext(error.as_ref()).to_string() }),
        );
        println!("{answer}");
    }
}

async fn get(config: &SdkConfig) -> Told {
    let provider = config
        .credentials_provider()
        .expect("the default chain is one");
    let set = provider.provide_credentials().await?;
    Ok(json!({
        "accessKeyId": set.access_key_id(),
        "secretAccessKey": set.secret_access_key(),
        "sessionToken": set.session_token(),
    }))
}

async fn whoami(sts: &aws_sdk_sts::Client) -> Told {
    let caller = sts.get_caller_identity().send().await?;
    Ok(json!({ "arn": caller.arn() }))
}
