//! The program of tests/e2e/programs.py with the Rust SDK. Its argument is the API, which is EventBridge.

use std::io;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::error::ProvideErrorMetadata;
use aws_sdk_eventbridge::operation::put_events::PutEventsOutput;
use aws_sdk_eventbridge::primitives::{DateTime, DateTimeFormat};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    assert_eq!(std::env::args().nth(1).as_deref(), Some("eventbridge"));
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let client = Client::new(&config);
    for line in io::stdin().lines() {
        let params: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let entries = each(&params["Entries"]).map(entry).collect();
        let said = match client.put_events().set_entries(Some(entries)).send().await {
            Ok(output) => json!({ "answer": answer(&output) }),
            Err(error) => json!({ "error": {
                "code": error.code(), "message": error.message().map_or(format!("{error:?}"), str::to_owned),
            }}),
        };
        println!("{said}");
    }
}

fn each(values: &Value) -> impl Iterator<Item = &Value> {
    values.as_array().expect("an array").iter()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn entry(from: &Value) -> PutEventsRequestEntry {
    let time = from["Time"]
        .as_str()
        .map(|text| DateTime::from_str(text, DateTimeFormat::DateTime).expect("a time"));
    let resources = from["Resources"]
        .as_array()
        .map(|names| names.iter().filter_map(text).collect());
    PutEventsRequestEntry::builder()
        .set_source(text(&from["Source"]))
        .set_detail_type(text(&from["DetailType"]))
        .set_detail(text(&from["Detail"]))
        .set_event_bus_name(text(&from["EventBusName"]))
        .set_trace_header(text(&from["TraceHeader"]))
        .set_time(time)
        .set_resources(resources)
        .build()
}

fn answer(output: &PutEventsOutput) -> Value {
    let results = output.entries().iter().map(|result| {
        json!({
            "EventId": result.event_id(),
            "ErrorCode": result.error_code(),
            "ErrorMessage": result.error_message(),
        })
    });
    json!({ "FailedEntryCount": output.failed_entry_count(), "Entries": results.collect::<Vec<_>>() })
}
