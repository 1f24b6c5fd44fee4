package pushtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"sync"
	"time"
)

// rsaKey is made once: it takes a while, and no test needs two.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func pkcs8(key any) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// clientCertificate makes a certificate for an app, in PEM with its key.
func clientCertificate(name string) (text string, leaf []byte, err error) {
	key, err := rsaKey()
	if err != nil {
		return "", nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62)) // two apps are never the same
	if err != nil {
		return "", nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	leaf, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return "", nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	return string(cert) + string(private), leaf, nil
}

func newECKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

type jwt struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`

	Iss   string `json:"iss"`
	Aud   string `json:"aud"`
	Scope string `json:"scope"`
	Iat   int64  `json:"iat"`
	Exp   int64  `json:"exp"`
}

var errBadJWT = errors.New("bad JWT")

// verifyJWT checks the signature, by ES256, RS256 or PS256, with the public key.
func verifyJWT(token, alg string, public crypto.PublicKey) (jwt, error) {
	var j jwt
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return j, errBadJWT
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			return j, errBadJWT
		}
		raw[i] = b
	}
	if json.Unmarshal(raw[0], &j) != nil || json.Unmarshal(raw[1], &j) != nil || j.Alg != alg {
		return j, errBadJWT
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	good := false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if len(raw[2]) == 64 {
			r, s := new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])
			good = ecdsa.Verify(key, sum[:], r, s)
		}
	case *rsa.PublicKey:
		if alg == "PS256" {
			good = rsa.VerifyPSS(key, crypto.SHA256, sum[:], raw[2], nil) == nil
		} else {
			good = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw[2]) == nil
		}
	}
	if !good {
		return j, errBadJWT
	}
	return j, nil
}
