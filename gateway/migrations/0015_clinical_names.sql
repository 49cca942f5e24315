-- What devices and sites call themselves in DICOM and in HL7 v2 (R2, R5); a line break between two.

ALTER TABLE devices ADD COLUMN ae_titles TEXT NOT NULL DEFAULT '';
ALTER TABLE sites ADD COLUMN facilities TEXT NOT NULL DEFAULT '';
