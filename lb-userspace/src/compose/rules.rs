//! From the header options, rules and pages of a configuration to those of a proxy.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use lb_config::HstsReach;
use lb_proxy::{
    ErrorPages, HeaderMode, HeaderPolicy, HeaderRule, Inbound, Page, PathPrefix, Piece, Rules,
    TargetPart, TargetRule, Tell, Template, Variable,
};

/// Larger pages are for a server.
const LARGEST_PAGE: u64 = 256 << 10;

/// Why an error page can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadPage {
    #[error("can't read the error page {}: {cause}; check the path and who may read it", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("the error page {} has more than {LARGEST_PAGE} bytes; make it smaller", path.display())]
    TooLarge { path: PathBuf },
    #[error("the error page {} isn't UTF-8 text, as its Content-Type will say; convert it", path.display())]
    NotText { path: PathBuf },
}

/// Pages, read in.
pub(super) fn error_pages(
    pages: &lb_config::ErrorPages,
    directory: &Path,
) -> Result<ErrorPages, BadPage> {
    let pages = pages.as_slice().iter().map(|page| {
        let body = body(directory.join(&page.file))?;
        Ok((page.status, Page::new(page.content_type.clone(), body)))
    });
    pages.collect()
}

fn body(path: PathBuf) -> Result<Vec<u8>, BadPage> {
    let mut body = Vec::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(LARGEST_PAGE + 1).read_to_end(&mut body));
    match read {
        Err(cause) => Err(BadPage::Read { path, cause }),
        Ok(_) if body.len() as u64 > LARGEST_PAGE => Err(BadPage::TooLarge { path }),
        Ok(_) if std::str::from_utf8(&body).is_err() => Err(BadPage::NotText { path }),
        Ok(_) => Ok(body),
    }
}

/// `Strict-Transport-Security` (RFC 6797 section 6.1).
pub(super) fn hsts(hsts: &lb_config::Hsts) -> HeaderValue {
    let reach = match hsts.reach {
        HstsReach::Host => "",
        HstsReach::Subdomains => "; includeSubDomains",
        HstsReach::Preload => "; includeSubDomains; preload",
    };
    let value = format!("max-age={}{reach}", hsts.max_age.as_secs());
    // A number and words are a value.
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
}

/// What a route adds to and removes from requests without being told how.
pub(super) fn header_policy(to: &lb_config::Forwarding) -> HeaderPolicy {
    let tell = |tell: &lb_config::Tell| match tell {
        lb_config::Tell::XForwardedFor => Tell::XForwardedFor,
        lb_config::Tell::XForwardedProto => Tell::XForwardedProto,
        lb_config::Tell::XForwardedPort => Tell::XForwardedPort,
        lb_config::Tell::XForwardedHost => Tell::XForwardedHost,
        lb_config::Tell::Forwarded => Tell::Forwarded,
    };
    HeaderPolicy {
        mode: match to.headers {
            lb_config::HeaderMode::LegacyXForwardedFor => HeaderMode::LegacyXForwardedFor,
            lb_config::HeaderMode::XForwardedForVia => HeaderMode::XForwardedForVia,
            lb_config::HeaderMode::None => HeaderMode::None,
            lb_config::HeaderMode::XClientSideVia => HeaderMode::XClientSideVia,
            lb_config::HeaderMode::XClientSide => HeaderMode::XClientSide,
            lb_config::HeaderMode::XForwardedFor => HeaderMode::XForwardedFor,
            lb_config::HeaderMode::Via => HeaderMode::Via,
        },
        inbound: match to.inbound {
            lb_config::Inbound::Strip => Inbound::Strip,
            lb_config::Inbound::Keep => Inbound::Keep,
        },
        told: to.forwarded.iter().map(tell).collect(),
    }
}

/// The rules of the route called `names.route`; `None` if it has none.
pub(super) fn rules(rules: &lb_config::Rules, names: Names<'_>) -> Option<Box<Rules>> {
    if *rules == lb_config::Rules::default() {
        return None;
    }
    let headers = |rules: &[lb_config::HeaderRule]| {
        let rules = rules.iter().map(|rule| header_rule(rule, names));
        rules.collect()
    };
    Some(Box::new(Rules {
        target: rules.target.iter().map(target_rule).collect(),
        request: headers(&rules.request),
        response: headers(&rules.response),
    }))
}

/// What never changes for a route, and so is no variable any more.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) service: &'a str,
    pub(super) route: &'a str,
}

fn header_rule(rule: &lb_config::HeaderRule, names: Names<'_>) -> HeaderRule {
    match rule.clone() {
        lb_config::HeaderRule::Add { name, value } => HeaderRule::Add {
            name,
            value: template(&value, names),
        },
        lb_config::HeaderRule::Set { name, value } => HeaderRule::Set {
            name,
            value: template(&value, names),
        },
        lb_config::HeaderRule::Remove { name } => HeaderRule::Remove { name },
        lb_config::HeaderRule::Copy { from, to } => HeaderRule::Copy { from, to },
        lb_config::HeaderRule::Rewrite {
            name,
            pattern,
            with,
        } => HeaderRule::Rewrite {
            name,
            pattern: pattern.regex().clone(),
            with,
        },
    }
}

fn target_rule(rule: &lb_config::TargetRule) -> TargetRule {
    match rule.clone() {
        lb_config::TargetRule::Prefix { from, to } => TargetRule::Prefix {
            from: PathPrefix(from.as_str().to_owned()),
            to,
        },
        lb_config::TargetRule::Rewrite {
            part,
            pattern,
            with,
        } => TargetRule::Rewrite {
            part: match part {
                lb_config::TargetPart::Path => TargetPart::Path,
                lb_config::TargetPart::Query => TargetPart::Query,
                lb_config::TargetPart::Url => TargetPart::Url,
            },
            pattern: pattern.regex().clone(),
            with,
        },
    }
}

fn template(template: &lb_config::Template, names: Names<'_>) -> Template {
    let pieces = template.pieces().iter().map(|piece| {
        let variable = match piece {
            lb_config::Piece::Text(text) => return Piece::Text(text.clone()),
            lb_config::Piece::Variable(variable) => variable,
        };
        Piece::Variable(match variable {
            lb_config::Variable::Service => return Piece::Text(names.service.to_owned()),
            lb_config::Variable::Route => return Piece::Text(names.route.to_owned()),
            lb_config::Variable::ClientIp => Variable::ClientIp,
            lb_config::Variable::ClientPort => Variable::ClientPort,
            lb_config::Variable::ListenIp => Variable::ListenIp,
            lb_config::Variable::ListenPort => Variable::ListenPort,
            lb_config::Variable::Scheme => Variable::Scheme,
            lb_config::Variable::Sni => Variable::Sni,
            lb_config::Variable::Method => Variable::Method,
            lb_config::Variable::Host => Variable::Host,
            lb_config::Variable::Path => Variable::Path,
            lb_config::Variable::Query => Variable::Query,
            lb_config::Variable::Server => Variable::Server,
        })
    });
    Template(pieces.collect())
}

#[cfg(test)]
mod tests;
