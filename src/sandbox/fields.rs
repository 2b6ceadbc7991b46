//! The table of a lead's fields: both names, type, flags; and the dictionaries of stages and sources.
//!
//! Bitrix24 docs: `main-entities-fields.md` ("Leads") and `universal/object-fields.md` ("Lead"). A table, so that the
//! two families of methods (`crm.lead.*`, `crm.item.*`), filters, orders and `fields` can't drift apart.

/// What a field holds, which decides how it is written, compared and parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An integer; absent is null.
    Int,
    /// An integer; absent is 0, as for `companyId`.
    IntZero,
    /// A floating-point number.
    Double,
    /// Text.
    Text,
    /// `Y` or `N`.
    Char,
    /// A code of the dictionary `STATUS` or `SOURCE`.
    Status(&'static str),
    /// A time, to the second.
    Time,
    /// A custom field of type boolean.
    CustomFlag,
    /// A custom field of type enumeration: the id of an option.
    CustomEnum,
    /// A custom field of several texts.
    Texts,
}

/// One field of a lead.
#[derive(Debug)]
pub(super) struct Field {
    /// Its name in `crm.item.*`.
    pub(super) item: &'static str,
    /// Its name in `crm.lead.*`.
    pub(super) classic: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
    /// Clients can't set it.
    pub(super) read_only: bool,
    /// It appears in `crm.item.list` and its kin only.
    pub(super) item_only: bool,
}

impl Field {
    /// A custom field (`UF_CRM_…`).
    pub(super) fn custom(&self) -> bool {
        self.classic.starts_with("UF_")
    }

    /// The name that the item controller converts `item` to: `stageId` is `STAGE_ID`.
    pub(super) fn upper(&self) -> String {
        if self.custom() { self.classic.to_owned() } else { upper_snake(self.item) }
    }
}

/// The index of a field in [`FIELDS`].
pub(super) type FieldId = u8;

const fn field(item: &'static str, classic: &'static str, kind: Kind) -> Field {
    Field { item, classic, kind, read_only: false, item_only: false }
}

const fn fixed(item: &'static str, classic: &'static str, kind: Kind) -> Field {
    Field { item, classic, kind, read_only: true, item_only: false }
}

/// Every field, in the order in which rows are written.
pub(super) static FIELDS: &[Field] = &[
    fixed("id", "ID", Kind::Int),
    fixed("createdTime", "DATE_CREATE", Kind::Time),
    fixed("updatedTime", "DATE_MODIFY", Kind::Time),
    fixed("createdBy", "CREATED_BY_ID", Kind::Int),
    fixed("updatedBy", "MODIFY_BY_ID", Kind::Int),
    field("assignedById", "ASSIGNED_BY_ID", Kind::Int),
    field("opened", "OPENED", Kind::Char),
    field("companyId", "COMPANY_ID", Kind::IntZero),
    field("contactId", "CONTACT_ID", Kind::IntZero),
    field("stageId", "STATUS_ID", Kind::Status("STATUS")),
    fixed("stageSemanticId", "STATUS_SEMANTIC_ID", Kind::Text),
    field("statusDescription", "STATUS_DESCRIPTION", Kind::Text),
    field("opportunity", "OPPORTUNITY", Kind::Double),
    field("currencyId", "CURRENCY_ID", Kind::Text),
    field("isManualOpportunity", "IS_MANUAL_OPPORTUNITY", Kind::Char),
    field("sourceId", "SOURCE_ID", Kind::Status("SOURCE")),
    field("sourceDescription", "SOURCE_DESCRIPTION", Kind::Text),
    field("title", "TITLE", Kind::Text),
    field("name", "NAME", Kind::Text),
    field("lastName", "LAST_NAME", Kind::Text),
    field("secondName", "SECOND_NAME", Kind::Text),
    field("companyTitle", "COMPANY_TITLE", Kind::Text),
    field("post", "POST", Kind::Text),
    field("address", "ADDRESS", Kind::Text),
    field("comments", "COMMENTS", Kind::Text),
    Field { item: "webformId", classic: "WEBFORM_ID", kind: Kind::IntZero, read_only: true, item_only: true },
    field("originatorId", "ORIGINATOR_ID", Kind::Text),
    field("originId", "ORIGIN_ID", Kind::Text),
    fixed("dateClosed", "DATE_CLOSED", Kind::Time),
    field("birthdate", "BIRTHDATE", Kind::Time),
    field("honorific", "HONORIFIC", Kind::Text),
    fixed("hasPhone", "HAS_PHONE", Kind::Char),
    fixed("hasEmail", "HAS_EMAIL", Kind::Char),
    fixed("hasImol", "HAS_IMOL", Kind::Char),
    fixed("isReturnCustomer", "IS_RETURN_CUSTOMER", Kind::Char),
    fixed("movedBy", "MOVED_BY_ID", Kind::Int),
    fixed("movedTime", "MOVED_TIME", Kind::Time),
    fixed("lastActivityBy", "LAST_ACTIVITY_BY", Kind::Int),
    fixed("lastActivityTime", "LAST_ACTIVITY_TIME", Kind::Time),
    field("utmSource", "UTM_SOURCE", Kind::Text),
    field("utmMedium", "UTM_MEDIUM", Kind::Text),
    field("utmCampaign", "UTM_CAMPAIGN", Kind::Text),
    field("utmContent", "UTM_CONTENT", Kind::Text),
    field("utmTerm", "UTM_TERM", Kind::Text),
    field("ufCrm_1700000000", "UF_CRM_1700000000", Kind::Text),
    field("ufCrm_1700000001", "UF_CRM_1700000001", Kind::Double),
    field("ufCrm_1700000002", "UF_CRM_1700000002", Kind::CustomEnum),
    field("ufCrm_1700000003", "UF_CRM_1700000003", Kind::CustomFlag),
    field("ufCrm_1700000004", "UF_CRM_1700000004", Kind::Time),
    field("ufCrm_1700000005", "UF_CRM_1700000005", Kind::Texts),
];

/// The options of the enumeration field `ufCrm_1700000002`.
pub(super) const ENUM_OPTIONS: &[(i64, &str)] = &[(44, "small"), (45, "medium"), (46, "large")];

/// The field with this `crm.item` name.
pub(super) fn by_item(name: &str) -> Option<(FieldId, &'static Field)> {
    find(|field| field.item == name)
}

/// The field with this `crm.lead` name; names are case-sensitive.
pub(super) fn by_classic(name: &str) -> Option<(FieldId, &'static Field)> {
    find(|field| field.classic == name && !field.item_only)
}

/// The field that the item controller finds for a name in a filter, an order or a select: it converts the name to
/// upper snake case first, so that both `stageId` and `STAGE_ID` are known.
pub(super) fn by_item_or_upper(name: &str) -> Option<(FieldId, &'static Field)> {
    by_item(name).or_else(|| find(|field| field.upper() == name))
}

fn find(test: impl Fn(&Field) -> bool) -> Option<(FieldId, &'static Field)> {
    FIELDS.iter().zip(0..).find(|(field, _)| test(field)).map(|(field, id)| (id, field))
}

/// The field at `id`; ids come from this table only.
pub(super) fn get(id: FieldId) -> Option<&'static Field> {
    FIELDS.get(usize::from(id))
}

/// `fooBar` as `FOO_BAR`; a name without lower-case letters stays.
pub(super) fn upper_snake(name: &str) -> String {
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        return name.to_owned();
    }
    let mut upper = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        if at > 0 && c.is_ascii_uppercase() {
            upper.push('_');
        }
        upper.push(c.to_ascii_uppercase());
    }
    upper
}

/// A row of a dictionary.
#[derive(Debug)]
pub(super) struct Status {
    /// `STATUS` or `SOURCE`.
    pub(super) dictionary: &'static str,
    /// `STATUS_ID`.
    pub(super) code: &'static str,
    /// Its name for people.
    pub(super) name: &'static str,
    /// The stage's semantics: `P`, `S` or `F`; empty for a source.
    pub(super) semantics: &'static str,
    /// Whether it came with the portal.
    pub(super) system: bool,
}

const fn stage(code: &'static str, name: &'static str, semantics: &'static str, system: bool) -> Status {
    Status { dictionary: "STATUS", code, name, semantics, system }
}

const fn source(code: &'static str, name: &'static str) -> Status {
    Status { dictionary: "SOURCE", code, name, semantics: "", system: true }
}

/// The stages and sources of the portal (`crm-status-list.md`), in their order.
pub(super) static STATUSES: &[Status] = &[
    stage("NEW", "Unassigned", "P", true),
    stage("IN_PROCESS", "In progress", "P", true),
    stage("7", "Call again later", "P", false),
    stage("PROCESSED", "Processed", "P", true),
    stage("CONVERTED", "Good lead", "S", true),
    stage("JUNK", "Junk lead", "F", true),
    source("CALL", "Call"),
    source("EMAIL", "E-mail"),
    source("WEB", "Website"),
    source("ADVERTISING", "Advertising"),
    source("PARTNER", "Existing client"),
    source("RECOMMENDATION", "By recommendation"),
    source("TRADE_SHOW", "Show or exhibition"),
    source("WEBFORM", "CRM form"),
    source("CALLBACK", "Callback"),
    source("RC_GENERATOR", "Sales boost"),
    source("STORE", "Online store"),
    source("OTHER", "Other"),
];

/// The semantics of a stage; a stage that is unknown counts as in progress.
pub(super) fn semantics(stage: &str) -> &'static str {
    STATUSES
        .iter()
        .find(|status| status.dictionary == "STATUS" && status.code == stage)
        .map_or("P", |status| status.semantics)
}

/// Whether a dictionary has this code.
pub(super) fn in_dictionary(dictionary: &str, code: &str) -> bool {
    STATUSES.iter().any(|status| status.dictionary == dictionary && status.code == code)
}
