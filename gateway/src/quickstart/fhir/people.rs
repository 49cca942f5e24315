//! People who do not exist. Names, birthdays, addresses, numbers and findings are invented; the shape is that of
//! JP Core 1.2 (jpfhir.jp), and every resource is tagged as test data when it is stored.

use serde_json::{Value, json};

/// When the synthetic data was "written".
pub(super) const SEED_TIME: &str = "2026-04-01T09:00:00+09:00";

/// Patient numbers of a medical institution: `1.2.392.100495.20.3.51.` and `1` and the institution's ten digits.
const NUMBERS: &str = "urn:oid:1.2.392.100495.20.3.51.11311234567";
const REPRESENTATION: &str = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation";
const CORE: &str = "http://jpfhir.jp/fhir/core/StructureDefinition";
const LOINC: &str = "http://loinc.org";
const UCUM: &str = "http://unitsofmeasure.org";

struct Person {
    id: &'static str,
    number: &'static str,
    kanji: (&'static str, &'static str),
    kana: (&'static str, &'static str),
    gender: &'static str,
    birth: &'static str,
    post: &'static str,
    address: (&'static str, &'static str, &'static str),
    /// ICD-10 code and its Japanese name.
    condition: (&'static str, &'static str),
    /// ATC code, name and dose.
    medication: (&'static str, &'static str, &'static str),
    /// Systolic and diastolic, mmHg.
    pressure: (u16, u16),
    /// Per cent.
    hba1c: f64,
    appointment: &'static str,
    insurance: &'static str,
}

const PEOPLE: &[Person] = &[
    Person {
        id: "yamada-hanako",
        number: "00000010",
        kanji: ("山田", "花子"),
        kana: ("ヤマダ", "ハナコ"),
        gender: "female",
        birth: "1958-03-03",
        post: "000-0001",
        address: ("東京都", "架空区", "見本町1-2-3"),
        condition: ("I10", "本態性高血圧症"),
        medication: ("C08CA01", "アムロジピン錠5mg", "1日1回朝食後 1錠"),
        pressure: (148, 92),
        hba1c: 5.6,
        appointment: "2026-04-20T09:30:00+09:00",
        insurance: "国民健康保険",
    },
    Person {
        id: "suzuki-ichiro",
        number: "00000028",
        kanji: ("鈴木", "一朗"),
        kana: ("スズキ", "イチロウ"),
        gender: "male",
        birth: "1949-11-23",
        post: "000-0002",
        address: ("東京都", "架空区", "例示町4-5"),
        condition: ("E11.9", "2型糖尿病"),
        medication: ("A10BA02", "メトホルミン塩酸塩錠250mg", "1日2回朝夕食後 1錠"),
        pressure: (132, 78),
        hba1c: 7.4,
        appointment: "2026-04-20T10:00:00+09:00",
        insurance: "後期高齢者医療制度",
    },
    Person {
        id: "sato-misaki",
        number: "00000036",
        kanji: ("佐藤", "美咲"),
        kana: ("サトウ", "ミサキ"),
        gender: "female",
        birth: "1991-07-15",
        post: "000-0003",
        address: ("神奈川県", "見本市", "架空台6-7-8"),
        condition: ("J45.9", "気管支喘息"),
        medication: ("R03BA05", "フルチカゾン吸入用100μg", "1日2回 1回1吸入"),
        pressure: (112, 68),
        hba1c: 5.2,
        appointment: "2026-04-21T14:15:00+09:00",
        insurance: "健康保険組合",
    },
    Person {
        id: "tanaka-kenji",
        number: "00000044",
        kanji: ("田中", "健二"),
        kana: ("タナカ", "ケンジ"),
        gender: "male",
        birth: "1976-01-09",
        post: "000-0004",
        address: ("大阪府", "例示市", "見本通9-10"),
        condition: ("E78.5", "脂質異常症"),
        medication: ("C10AA05", "アトルバスタチン錠10mg", "1日1回夕食後 1錠"),
        pressure: (126, 80),
        hba1c: 5.8,
        appointment: "2026-04-22T11:00:00+09:00",
        insurance: "協会けんぽ",
    },
    Person {
        id: "watanabe-mio",
        number: "00000052",
        kanji: ("渡辺", "澪"),
        kana: ("ワタナベ", "ミオ"),
        gender: "female",
        birth: "2015-05-05",
        post: "000-0005",
        address: ("京都府", "架空市", "例示小路11"),
        condition: ("J30.1", "花粉によるアレルギー性鼻炎"),
        medication: ("R06AE09", "レボセチリジン塩酸塩シロップ0.05%", "1日2回朝食後・就寝前 5mL"),
        pressure: (98, 58),
        hba1c: 5.0,
        appointment: "2026-04-22T16:30:00+09:00",
        insurance: "協会けんぽ",
    },
    Person {
        id: "ito-shigeru",
        number: "00000061",
        kanji: ("伊藤", "茂"),
        kana: ("イトウ", "シゲル"),
        gender: "male",
        birth: "1937-08-30",
        post: "000-0006",
        address: ("北海道", "見本市", "架空条12丁目"),
        condition: ("I48.9", "心房細動"),
        medication: ("B01AF02", "アピキサバン錠2.5mg", "1日2回朝夕食後 1錠"),
        pressure: (138, 84),
        hba1c: 6.1,
        appointment: "2026-04-23T09:00:00+09:00",
        insurance: "後期高齢者医療制度",
    },
    Person {
        id: "nakamura-aoi",
        number: "00000079",
        kanji: ("中村", "葵"),
        kana: ("ナカムラ", "アオイ"),
        gender: "other",
        birth: "2002-12-01",
        post: "000-0007",
        address: ("福岡県", "例示市", "見本坂13-14"),
        condition: ("G43.9", "片頭痛"),
        medication: ("N02CC04", "リザトリプタン口腔内崩壊錠10mg", "頭痛時 1錠"),
        pressure: (116, 72),
        hba1c: 5.1,
        appointment: "2026-04-24T13:45:00+09:00",
        insurance: "国民健康保険",
    },
];

/// Every synthetic resource: per person a patient, a condition, two observations, a prescription, an appointment and
/// an insurance.
pub(super) fn resources() -> Vec<Value> {
    let organization = json!({
        "resourceType": "Organization",
        "id": "sakura-clinic",
        "meta": { "profile": [format!("{CORE}/JP_Organization")] },
        "active": true,
        "name": "桜クリニック(架空)",
    });
    let of_person = |p| [patient(p), condition(p), pressure(p), hba1c(p), medication(p), appointment(p), coverage(p)];
    std::iter::once(organization).chain(PEOPLE.iter().flat_map(of_person)).collect()
}

fn patient(p: &Person) -> Value {
    let name = |code: &str, (family, given): (&str, &str)| {
        json!({
            "extension": [{ "url": REPRESENTATION, "valueCode": code }],
            "use": "official",
            "text": format!("{family} {given}"),
            "family": family,
            "given": [given],
        })
    };
    let (state, city, line) = p.address;
    json!({
        "resourceType": "Patient",
        "id": p.id,
        "meta": { "profile": [format!("{CORE}/JP_Patient")] },
        "identifier": [{ "system": NUMBERS, "value": p.number }],
        "active": true,
        "name": [name("IDE", p.kanji), name("SYL", p.kana)],
        "gender": p.gender,
        "birthDate": p.birth,
        "address": [{
            "use": "home",
            "text": format!("{state}{city}{line}"),
            "line": [line],
            "city": city,
            "state": state,
            "postalCode": p.post,
            "country": "JP",
        }],
        "managingOrganization": { "reference": "Organization/sakura-clinic" },
    })
}

fn subject(p: &Person) -> Value {
    json!({ "reference": format!("Patient/{}", p.id), "display": format!("{} {}", p.kanji.0, p.kanji.1) })
}

fn concept(system: &str, code: &str, text: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code }], "text": text })
}

fn condition(p: &Person) -> Value {
    json!({
        "resourceType": "Condition",
        "id": format!("{}-condition", p.id),
        "meta": { "profile": [format!("{CORE}/JP_Condition")] },
        "clinicalStatus": concept("http://terminology.hl7.org/CodeSystem/condition-clinical", "active", "active"),
        "code": concept("http://hl7.org/fhir/sid/icd-10", p.condition.0, p.condition.1),
        "subject": subject(p),
    })
}

fn observation(p: &Person, suffix: &str, profile: &str, category: &str, code: Value) -> Value {
    let categories = "http://terminology.hl7.org/CodeSystem/observation-category";
    json!({
        "resourceType": "Observation",
        "id": format!("{}-{suffix}", p.id),
        "meta": { "profile": [format!("{CORE}/{profile}")] },
        "status": "final",
        "category": [concept(categories, category, category)],
        "code": code,
        "subject": subject(p),
        "effectiveDateTime": "2026-03-30T10:00:00+09:00",
    })
}

fn with(mut resource: Value, key: &str, value: Value) -> Value {
    if let Some(object) = resource.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
    resource
}

fn pressure(p: &Person) -> Value {
    let part = |code: &str, text: &str, value: u16| {
        json!({
            "code": concept(LOINC, code, text),
            "valueQuantity": { "value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]" },
        })
    };
    let code = concept(LOINC, "85354-9", "血圧");
    let parts = json!([part("8480-6", "収縮期血圧", p.pressure.0), part("8462-4", "拡張期血圧", p.pressure.1)]);
    with(observation(p, "pressure", "JP_Observation_VitalSigns", "vital-signs", code), "component", parts)
}

fn hba1c(p: &Person) -> Value {
    let code = concept(LOINC, "4548-4", "HbA1c");
    let value = json!({ "value": p.hba1c, "unit": "%", "system": UCUM, "code": "%" });
    with(observation(p, "hba1c", "JP_Observation_LabResult", "laboratory", code), "valueQuantity", value)
}

fn medication(p: &Person) -> Value {
    let (code, name, dose) = p.medication;
    json!({
        "resourceType": "MedicationRequest",
        "id": format!("{}-medication", p.id),
        "meta": { "profile": [format!("{CORE}/JP_MedicationRequest")] },
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": concept("http://www.whocc.no/atc", code, name),
        "subject": subject(p),
        "authoredOn": "2026-03-30",
        "dosageInstruction": [{ "text": dose }],
    })
}

fn appointment(p: &Person) -> Value {
    json!({
        "resourceType": "Appointment",
        "id": format!("{}-appointment", p.id),
        "status": "booked",
        "description": "再診",
        "start": p.appointment,
        "participant": [{ "actor": subject(p), "status": "accepted" }],
    })
}

fn coverage(p: &Person) -> Value {
    json!({
        "resourceType": "Coverage",
        "id": format!("{}-coverage", p.id),
        "meta": { "profile": [format!("{CORE}/JP_Coverage")] },
        "status": "active",
        "type": { "text": p.insurance },
        "beneficiary": subject(p),
        "payor": [{ "display": format!("{}(架空)", p.insurance) }],
    })
}
