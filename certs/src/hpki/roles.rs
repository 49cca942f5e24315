//! HPKI's qualifications as data: how a certificate spells them, what policies call them and what people read.

use std::borrow::Cow;

/// One qualification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualifiedRole {
    /// `codeDataFreeText`, compared byte by byte.
    pub text: Cow<'static, str>,
    /// The role's name in policies.
    pub role: Cow<'static, str>,
    /// The name in Japanese.
    pub japanese: Cow<'static, str>,
}

/// Which roles the texts of certificates stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleTable(Vec<QualifiedRole>);

impl RoleTable {
    /// A table of the caller's; where a text comes twice, the first counts.
    #[must_use]
    pub fn new(entries: Vec<QualifiedRole>) -> Self {
        Self(entries)
    }

    /// The role that a text stands for.
    #[must_use]
    pub fn role(&self, text: &str) -> Option<&QualifiedRole> {
        self.0.iter().find(|entry| entry.text == text)
    }

    /// A text's entry whose role has this name: for its Japanese name.
    #[must_use]
    pub fn named(&self, role: &str) -> Option<&QualifiedRole> {
        self.0.iter().find(|entry| entry.role == role)
    }
}

impl Default for RoleTable {
    fn default() -> Self {
        Self(ROLES.to_vec())
    }
}

const fn entry(text: &'static str, role: &'static str, japanese: &'static str) -> QualifiedRole {
    QualifiedRole { text: Cow::Borrowed(text), role: Cow::Borrowed(role), japanese: Cow::Borrowed(japanese) }
}

/// The table of HPKI's certificate policy (7.1.3). `Medical Doctor`, `Pharmacist`, `Director of Hospital` and
/// `Director of Clinic` were seen in certificates and ministry papers; the spelling of the others is to be compared with
/// the policy before they are relied on: a text that is spelt otherwise is no role.
pub const ROLES: &[QualifiedRole] = &[
    entry("Medical Doctor", "medical-doctor", "医師"),
    entry("Dentist", "dentist", "歯科医師"),
    entry("Pharmacist", "pharmacist", "薬剤師"),
    entry("Medical Technologist", "medical-technologist", "臨床検査技師"),
    entry("Radiological Technologist", "radiological-technologist", "診療放射線技師"),
    entry("General Nurse", "general-nurse", "看護師"),
    entry("Public Health Nurse", "public-health-nurse", "保健師"),
    entry("Midwife", "midwife", "助産師"),
    entry("Physical Therapist", "physical-therapist", "理学療法士"),
    entry("Occupational Therapist", "occupational-therapist", "作業療法士"),
    entry("Orthoptist", "orthoptist", "視能訓練士"),
    entry("Speech Therapist", "speech-therapist", "言語聴覚士"),
    entry("Dental Technician", "dental-technician", "歯科技工士"),
    entry("National Registered Dietitian", "registered-dietitian", "管理栄養士"),
    entry("Certified Social Worker", "social-worker", "社会福祉士"),
    entry("Certified Care Worker", "care-worker", "介護福祉士"),
    entry("Emergency Medical Technician", "emergency-medical-technician", "救急救命士"),
    entry("Psychiatric Social Worker", "psychiatric-social-worker", "精神保健福祉士"),
    entry("Clinical Engineer", "clinical-engineer", "臨床工学技士"),
    entry("Massage and Finger Pressure Practitioner", "massage-practitioner", "あん摩マッサージ指圧師"),
    entry("Acupuncturist", "acupuncturist", "はり師"),
    entry("Moxibustion Practitioner", "moxibustion-practitioner", "きゅう師"),
    entry("Dental Hygienist", "dental-hygienist", "歯科衛生士"),
    entry("Prosthetics & Orthotics", "prosthetist-orthotist", "義肢装具士"),
    entry("Director of Hospital", "director-of-hospital", "病院長"),
    entry("Director of Clinic", "director-of-clinic", "診療所院長"),
    entry("Supervisor of Pharmacy", "supervisor-of-pharmacy", "管理薬剤師"),
    entry("Proprietor of Pharmacy", "proprietor-of-pharmacy", "薬局開設者"),
    entry("Director", "director", "その他の管理責任者"),
];
