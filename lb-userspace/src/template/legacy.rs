//! What a LoadMaster does unless told otherwise, line by line with what it costs Exchange.
//!
//! Values: LoadMaster REST API guide of June 2022, and for the headers the firmware of 2015.

/// The settings of the HTTPS service.
pub(super) fn service(domain: &str, offload: bool) -> String {
    let verify = if offload { "" } else { ", verify = \"none\"" };
    let kind = if offload { "http" } else { "https" };
    format!(
        "# LoadMaster in 2015. It adds Via, upon which Exchange lets a login count for one request only (Persistent-Auth: false);\n\
         # Mac Mail then ends in 401 and 400. Better: headers = \"none\".\n\
         headers = \"x-clientside+via\"\n\
         # The default until firmware of some years later: bodies wait for the server's 100 Continue. A client that sends its body at once\n\
         # waits as well; hybrid mailbox moves failed with it. Better: \"forward\".\n\
         expect = \"require\"\n\
         # LoadMaster's Idletime of 660 s cuts ActiveSync, EWS streaming and RPC/HTTP, and clients log in again. Better: \"40m\".\n\
         idle_timeout = \"11m\"\n\
         response_timeout = \"11m\"\n\
         # LoadMaster asks for one page for all virtual directories unless there are SubVSs, takes any body, and doesn't verify the server's\n\
         # certificate. Better: leave out path and verify, and give expect = \"200 OK\".\n\
         health = {{ kind = \"{kind}\", path = \"/owa/healthcheck.htm\", host = \"{domain}\", expect = \"\", interval = \"9s\", timeout = \"4s\", \
         rise = 1, fall = 2{verify} }}\n"
    )
}
