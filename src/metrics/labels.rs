//! The labels of what is counted for each Ingress.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};

use super::Series;

/// One Ingress's series with its labels.
pub(super) struct Labelled<'a> {
    pub(super) namespace: &'a str,
    pub(super) ingress: &'a str,
    pub(super) series: &'a Series,
}

impl<'a> Labelled<'a> {
    pub(super) fn labels(&self, extra: Option<(&'a str, &'a str)>) -> Labels<'a> {
        Labels { namespace: self.namespace, ingress: self.ingress, extra }
    }
}

pub(super) struct Labels<'a> {
    namespace: &'a str,
    ingress: &'a str,
    extra: Option<(&'a str, &'a str)>,
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel;
        ("namespace", self.namespace).encode(encoder.encode_label())?;
        ("ingress", self.ingress).encode(encoder.encode_label())?;
        if let Some(extra) = self.extra {
            extra.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
