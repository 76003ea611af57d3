//! Exchange Web Services, as much as a client needs to open a session, look at folders, save an item and be told of news.
//!
//! `GetFolder` for distinguished folders; `CreateItem`, which keeps the subject; `FindItem`, which lists what was created
//! in whatever folder; `Subscribe` and `Unsubscribe`; `GetStreamingEvents`, whose answer goes on for as many minutes as
//! asked, with a document every period (`admin`). Anything else is the SOAP fault that Exchange gives for an unknown
//! operation. Not here: XML parsing; operations, names and subjects are found by their element names, which the schema fixes.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use tokio::time::Instant;

use super::Visit;
use crate::pool::reply::Reply;

/// Subjects of created items, by user.
#[derive(Debug, Default)]
pub(in crate::pool) struct Mailboxes(RefCell<HashMap<String, Vec<String>>>);

/// Answers a SOAP request.
pub(super) async fn answer(mut visit: Visit<'_>) -> Result<Reply> {
    let request = visit.whole().await?;
    let request = String::from_utf8_lossy(&request).into_owned();
    let mailboxes = &visit.shared.mailboxes.0;
    let body = match operation(&request) {
        Some("GetFolder") => get_folder(&request),
        Some("FindItem") => {
            let mailboxes = mailboxes.borrow();
            find_item(mailboxes.get(visit.user).map_or(&[][..], Vec::as_slice))
        }
        Some("CreateItem") => {
            let mut mailboxes = mailboxes.borrow_mut();
            let mailbox = mailboxes.entry(visit.user.to_owned()).or_default();
            mailbox.push(element(&request, "Subject").unwrap_or_default().to_owned());
            let items = format!("<m:Items>{}</m:Items>", message(mailbox.len(), ""));
            response("CreateItem", &items)
        }
        Some("Subscribe") => response("Subscribe", SUBSCRIPTION),
        Some("Unsubscribe") => response("Unsubscribe", ""),
        Some("GetStreamingEvents") => {
            let minutes = element(&request, "ConnectionTimeout").and_then(|text| text.parse().ok());
            let reply = stream(minutes.unwrap_or(1), visit.shared.switches.period());
            return Ok(reply.with("Content-Type", XML));
        }
        _ => return Ok(Reply::new(500, envelope(FAULT)).with("Content-Type", XML)),
    };
    Ok(Reply::new(200, envelope(&body)).with("Content-Type", XML))
}

fn operation(request: &str) -> Option<&'static str> {
    OPERATIONS.into_iter().find(|name| {
        let mut starts = request.match_indices(name);
        starts.any(|(place, _)| {
            let before = request.get(..place).unwrap_or_default();
            let after = request.get(place + name.len()..).unwrap_or_default();
            before.ends_with(':') && after.starts_with([' ', '>'])
        })
    })
}

/// The text of the first element with this name, as it is written.
fn element<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = request.split_once(&format!(":{name}>"))?;
    rest.split('<').next()
}

fn get_folder(request: &str) -> String {
    let messages: String = distinguished_folders(request)
        .map(|name| {
            let folder = format!(
                "<m:Folders><t:Folder><t:FolderId Id=\"lab-{name}\" ChangeKey=\"AQ==\"/>\
                 <t:ParentFolderId Id=\"lab-root\" ChangeKey=\"AQ==\"/>\
                 <t:FolderClass>IPF.Note</t:FolderClass><t:DisplayName>{name}</t:DisplayName>\
                 <t:TotalCount>0</t:TotalCount><t:ChildFolderCount>0</t:ChildFolderCount>\
                 <t:UnreadCount>0</t:UnreadCount></t:Folder></m:Folders>"
            );
            response_message("GetFolder", &folder)
        })
        .collect();
    responses("GetFolder", &messages)
}

/// The `Id` attributes of the `DistinguishedFolderId` elements; letters only, so they can be echoed.
fn distinguished_folders(request: &str) -> impl Iterator<Item = &str> {
    request
        .split("DistinguishedFolderId ")
        .skip(1)
        .filter_map(|rest| {
            let name = rest.split_once("Id=\"")?.1.split_once('"')?.0;
            name.bytes()
                .all(|byte| byte.is_ascii_alphabetic())
                .then_some(name)
        })
}

fn find_item(subjects: &[String]) -> String {
    let items: String = (1..)
        .zip(subjects)
        .map(|(number, subject)| message(number, &format!("<t:Subject>{subject}</t:Subject>")))
        .collect();
    let count = subjects.len();
    response(
        "FindItem",
        &format!(
            "<m:RootFolder IndexedPagingOffset=\"{count}\" TotalItemsInView=\"{count}\" \
             IncludesLastItemInRange=\"true\"><t:Items>{items}</t:Items></m:RootFolder>"
        ),
    )
}

fn message(number: usize, fields: &str) -> String {
    format!(
        "<t:Message><t:ItemId Id=\"lab-item-{number}\" ChangeKey=\"AQ==\"/>{fields}</t:Message>"
    )
}

/// A document now, one every period that says there is new mail, and a last one.
fn stream(minutes: u64, period: Duration) -> Reply {
    let (pieces, reply) = Reply::streamed(None);
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    tokio::task::spawn_local(async move {
        let mut news = 0_u64;
        let mut document = status("OK");
        // Ends early with the client.
        while pieces.send(Bytes::from(document)).await.is_ok() {
            let next = Instant::now() + period;
            if next >= end {
                tokio::time::sleep_until(end).await;
                drop(pieces.send(status("Closed").into()).await);
                return;
            }
            tokio::time::sleep_until(next).await;
            news += 1;
            document = notification(news);
        }
    });
    reply
}

fn status(status: &str) -> String {
    let content = format!("<m:ConnectionStatus>{status}</m:ConnectionStatus>");
    envelope(&response("GetStreamingEvents", &content))
}

fn notification(number: u64) -> String {
    let content = format!(
        "<m:Notifications><m:Notification><t:SubscriptionId>lab-subscription</t:SubscriptionId>\
         <t:NewMailEvent><t:TimeStamp>2026-01-01T00:00:00Z</t:TimeStamp>\
         <t:ItemId Id=\"lab-news-{number}\" ChangeKey=\"AQ==\"/>\
         <t:ParentFolderId Id=\"lab-inbox\" ChangeKey=\"AQ==\"/></t:NewMailEvent>\
         </m:Notification></m:Notifications>"
    );
    envelope(&response("GetStreamingEvents", &content))
}

fn response(operation: &str, content: &str) -> String {
    responses(operation, &response_message(operation, content))
}

fn response_message(operation: &str, content: &str) -> String {
    format!(
        "<m:{operation}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
         {content}</m:{operation}ResponseMessage>"
    )
}

fn responses(operation: &str, messages: &str) -> String {
    format!(
        "<m:{operation}Response {NAMES}><m:ResponseMessages>{messages}</m:ResponseMessages>\
         </m:{operation}Response>"
    )
}

fn envelope(body: &str) -> String {
    format!("{HEAD}<s:Body>{body}</s:Body></s:Envelope>")
}

const OPERATIONS: [&str; 6] = [
    "GetFolder",
    "FindItem",
    "CreateItem",
    "Subscribe",
    "Unsubscribe",
    "GetStreamingEvents",
];

const XML: &str = "text/xml; charset=utf-8";

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
    <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Header>\
    <h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" MajorBuildNumber=\"1544\" MinorBuildNumber=\"4\" \
    Version=\"V2017_07_11\" xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></s:Header>";

const NAMES: &str = "xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
    xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"";

const SUBSCRIPTION: &str = "<m:SubscriptionId>lab-subscription</m:SubscriptionId>\
    <m:Watermark>AQ==</m:Watermark>";

const FAULT: &str = "<s:Fault><faultcode>s:Client</faultcode>\
    <faultstring>The request failed schema validation: the operation is not part of the simulated pool.\
    </faultstring></s:Fault>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_by_their_element() {
        assert_eq!(operation("<m:GetFolder>"), Some("GetFolder"));
        assert_eq!(operation("<x:Unsubscribe a=\"b\">"), Some("Unsubscribe"));
        assert_eq!(
            operation("<m:GetFolderShape><m:FindItem >"),
            Some("FindItem")
        );
        assert_eq!(operation("GetFolder >"), None);
        assert_eq!(
            element("<t:Subject>a &amp; b</t:Subject>", "Subject"),
            Some("a &amp; b")
        );
    }
}
