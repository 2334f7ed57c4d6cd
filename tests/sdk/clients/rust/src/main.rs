//! A client with AWS SDK for Rust. It has one configuration and one STS client, which cache credentials, as in an
//! application.
//!
//! It reads one request per line from stdin, and writes one JSON line per response to stdout (see ../request_loop.py).

use std::error::Error;
use std::io::stdin;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_types::error::display::DisplayErrorContext;
use serde_json::{json, Value};

type Response = Result<Value, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let sts = aws_sdk_sts::Client::new(&config);
    for line in stdin().lines() {
        let result = match line.expect("stdin is text").as_str() {
            "whoami" => whoami(&sts).await,
            _ => get(&config).await,
        };
        let response = result.unwrap_or_else(
            |error| json!({ "error": DisplayErrorContext(error.as_ref()).to_string() }),
        );
        println!("{response}");
    }
}

async fn get(config: &SdkConfig) -> Response {
    let provider = config
        .credentials_provider()
        .expect("the default chain is one");
    let found = provider.provide_credentials().await?;
    Ok(json!({
        "accessKeyId": found.access_key_id(),
        "secretAccessKey": found.secret_access_key(),
        "sessionToken": found.session_token(),
    }))
}

async fn whoami(sts: &aws_sdk_sts::Client) -> Response {
    let caller = sts.get_caller_identity().send().await?;
    Ok(json!({ "arn": caller.arn() }))
}
