#!/usr/bin/env bash
# RUSTC_WRAPPER of run.sh: gives the flags of coverage to our own crates and to no others.
previous=
for argument in "$@"; do
  if [ "$previous" = --crate-name ]; then
    case $argument in
      policy | certs | gateway_audit | gateway_clinical | gateway_tunnel | gateway | head | target | config | audit_reader | audit_sealed | spiffe | certificate | patients | tunnel | dicom | hl7)
        # shellcheck disable=SC2086 # flags are words
        exec "$@" $SEKISHO_FUZZ_FLAGS
        ;;
    esac
    break
  fi
  previous=$argument
done
exec "$@"
