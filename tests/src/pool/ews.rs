//! Exchange Web Services, as much as a client needs to open a session and look at folders.
//!
//! Answers `GetFolder` for distinguished folders, and `FindItem` with an empty folder; anything else is the
//! SOAP fault that Exchange gives for an unknown operation. Not here: XML parsing; the operation and the
//! folder names are found by their element names, which the schema fixes.

use std::fmt::Write as _;

/// Answer to a SOAP request, with its HTTP status.
pub(super) fn answer(request: &str) -> (u16, String) {
    let (status, body) = if request.contains(":GetFolder ") || request.contains(":GetFolder>") {
        (200, get_folder(request))
    } else if request.contains(":FindItem ") || request.contains(":FindItem>") {
        (200, FIND_ITEM.to_owned())
    } else {
        (500, FAULT.to_owned())
    };
    (
        status,
        format!("{HEAD}<s:Body>{body}</s:Body></s:Envelope>"),
    )
}

fn get_folder(request: &str) -> String {
    let messages = distinguished_folders(request).fold(String::new(), |mut all, name| {
        // Writing to a string can't fail.
        let _ = write!(
            all,
            "<m:GetFolderResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
             <m:Folders><t:Folder><t:FolderId Id=\"lab-{name}\" ChangeKey=\"AQ==\"/>\
             <t:ParentFolderId Id=\"lab-root\" ChangeKey=\"AQ==\"/>\
             <t:FolderClass>IPF.Note</t:FolderClass><t:DisplayName>{name}</t:DisplayName>\
             <t:TotalCount>0</t:TotalCount><t:ChildFolderCount>0</t:ChildFolderCount>\
             <t:UnreadCount>0</t:UnreadCount></t:Folder></m:Folders></m:GetFolderResponseMessage>"
        );
        all
    });
    format!(
        "<m:GetFolderResponse {NAMES}><m:ResponseMessages>{messages}</m:ResponseMessages></m:GetFolderResponse>"
    )
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

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
    <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Header>\
    <h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" MajorBuildNumber=\"1544\" MinorBuildNumber=\"4\" \
    Version=\"V2017_07_11\" xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></s:Header>";

const NAMES: &str = "xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
    xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"";

const FIND_ITEM: &str = "<m:FindItemResponse \
    xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
    xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><m:ResponseMessages>\
    <m:FindItemResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
    <m:RootFolder IndexedPagingOffset=\"0\" TotalItemsInView=\"0\" IncludesLastItemInRange=\"true\"><t:Items/>\
    </m:RootFolder></m:FindItemResponseMessage></m:ResponseMessages></m:FindItemResponse>";

const FAULT: &str = "<s:Fault><faultcode>s:Client</faultcode>\
    <faultstring>The request failed schema validation: the operation is not part of the simulated pool.\
    </faultstring></s:Fault>";
