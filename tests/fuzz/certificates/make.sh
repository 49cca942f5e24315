#!/usr/bin/env bash
# Makes the certificates that the target `certificate` changes, with openssl; their keys are thrown away. Only needed to
# make others: the DER files are in the repository, so that a finding is found again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > c.cnf <<'CNF'
[req]
distinguished_name=dn
prompt=no
utf8=yes
string_mask=utf8only
[dn]
CN=x
[root]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[issuing]
basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
extendedKeyUsage=clientAuth
nameConstraints=critical,permitted;URI:sekisho.example,excluded;DNS:example,excluded;IP:0.0.0.0/0.0.0.0
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
[device]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
subjectAltName=URI:spiffe://sekisho.example/site/sakura/device/exam-1
crlDistributionPoints=URI:http://pki.example/crl
authorityKeyIdentifier=keyid
[revoked]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
subjectAltName=URI:spiffe://sekisho.example/site/sakura/device/exam-2
[server]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:fhir.internal,IP:192.0.2.1
[hpkica]
basicConstraints=critical,CA:TRUE,pathlen:0
keyUsage=critical,keyCertSign,cRLSign
certificatePolicies=critical,@pol
[card]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
subjectAltName=ASN1:SEQUENCE:san
crlDistributionPoints=URI:http://cert.example/auth/crl.crl
certificatePolicies=critical,@pol
2.5.29.9=ASN1:SEQUENCE:sda
[pol]
policyIdentifier=1.2.392.100495.1.5.1.2.3.1
CPS.1=http://www.medis.example/8_hpki/
[san]
d=EXPLICIT:4,SEQUENCE:japanese
[japanese]
a=SET:cn
[cn]
a=SEQUENCE:cn_a
[cn_a]
t=OID:2.5.4.3
v=FORMAT:UTF8,UTF8String:山田太郎
[sda]
a=SEQUENCE:attr
[attr]
type=OID:1.0.17090.0.1
vals=SET:vals
[vals]
v=SET:actordata
[actordata]
a=SEQUENCE:doctor
[doctor]
c=EXPLICIT:0,SET:doctor_code
[doctor_code]
s=EXPLICIT:0,OID:1.2.392.100495.1.6.1.1
t=EXPLICIT:2,UTF8String:Medical Doctor
[ca]
default_ca=one
[one]
database=index.txt
crlnumber=crlnumber
default_md=sha256
crl_extensions=crl_extensions
[crl_extensions]
authorityKeyIdentifier=keyid
CNF

# make NAME SUBJECT SERIAL [ISSUER]
make() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config c.cnf -subj "$2" \
    -keyout "$1.key" -out "$1.csr" 2> /dev/null
  local signer=(-signkey "$1.key")
  [ $# -lt 4 ] || signer=(-CA "$4.crt" -CAkey "$4.key")
  openssl x509 -req -in "$1.csr" -out "$1.crt" -days 36500 -sha256 -set_serial "$3" -extfile c.cnf \
    -extensions "${5:-$1}" "${signer[@]}" 2> /dev/null
  openssl x509 -in "$1.crt" -outform DER -out "$here/$1.der"
}
make root "/CN=root" 1
make issuing "/CN=issuing" 2 root
make device "/CN=sakura\/exam-1" 3 issuing
make revoked "/CN=sakura\/exam-2" 4 issuing
make server "/CN=fhir" 5 root
make hpkica "/C=JP/CN=HPKI-01" 7 root
make card "/C=JP/CN=TARO YAMADA/serialNumber=117120" 8 hpkica

# crl ISSUER [REVOKED]
crl() {
  : > index.txt
  echo 01 > crlnumber
  local with=(-config c.cnf -cert "$1.crt" -keyfile "$1.key")
  [ $# -lt 2 ] || openssl ca "${with[@]}" -revoke "$2.crt" -crl_reason keyCompromise 2> /dev/null
  openssl ca "${with[@]}" -gencrl -crldays 36500 -out "$1.crl" 2> /dev/null
  openssl crl -in "$1.crl" -outform DER -out "$here/$1.crl"
}
crl root
crl issuing revoked

openssl req -in device.csr -outform DER -out "$here/request.der"
printf 'V\t991231235959Z\t\t05\tunknown\t/CN=fhir\n' > index.txt
openssl ocsp -index index.txt -CA root.crt -rsigner root.crt -rkey root.key -issuer root.crt -cert server.crt \
  -ndays 36500 -no_nonce -respout "$here/ocsp.der" > /dev/null 2>&1
