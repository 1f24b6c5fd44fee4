package push

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// oauth fetches an access token from an OAuth 2.0 token endpoint.
func (a *app) oauth(ctx context.Context, url string, body []byte) (accessToken, error) {
	asked := time.Now()
	ans, err := a.do(ctx, call{url: url, header: []string{"Content-Type", formType}, body: body})
	if err != nil {
		return accessToken{}, err
	}
	var got struct {
		AccessToken string    `json:"access_token"`
		ExpiresIn   looseText `json:"expires_in"`
		Error       looseText `json:"error"`
		Description looseText `json:"error_description"`
	}
	if err := json.Unmarshal(ans.body, &got); err != nil {
		return accessToken{}, a.loginFailed(ans, strconv.Itoa(ans.status), "answer is not JSON", loginStatus(ans.status))
	}
	if ans.status != http.StatusOK || got.AccessToken == "" {
		outcome := loginStatus(ans.status)
		if got.Error != "" && ans.status < 500 && ans.status != http.StatusTooManyRequests {
			outcome = AuthRejected
		}
		code := string(got.Error)
		if code == "" {
			code = strconv.Itoa(ans.status)
		}
		return accessToken{}, a.loginFailed(ans, code, string(got.Description), outcome)
	}
	life, err := strconv.ParseInt(string(got.ExpiresIn), 10, 64)
	if err != nil || life <= 0 || life > 7*24*3600 {
		life = 3600
	}
	return accessToken{value: got.AccessToken, renewAt: asked.Add(renewBefore(time.Duration(life) * time.Second))}, nil
}

// renewBefore returns the age at which to renew a token: five minutes before its end, and in
// the last fifth of the very short ones.
func renewBefore(life time.Duration) time.Duration {
	return max(life-5*time.Minute, life*4/5)
}

// signRSA makes a JWT: RS256, or PS256 with pss set.
func signRSA(key *rsa.PrivateKey, keyID string, pss bool, claims any) (string, error) {
	alg := "RS256"
	if pss {
		alg = "PS256"
	}
	header, err := json.Marshal(map[string]string{"alg": alg, "typ": "JWT", "kid": keyID})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(header) + "." + enc.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	if pss {
		signature, err = rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	}
	if err != nil {
		return "", err
	}
	return signed + "." + enc.EncodeToString(signature), nil
}

// parseRSAKey and parseECKey read a PKCS#8 key in PEM. Their errors don't quote it.
func parseRSAKey(pemText string) (*rsa.PrivateKey, error) {
	return parseKey[*rsa.PrivateKey](pemText, "RSA")
}

func parseECKey(pemText string) (*ecdsa.PrivateKey, error) {
	return parseKey[*ecdsa.PrivateKey](pemText, "ECDSA")
}

func parseKey[K any](pemText, kind string) (key K, err error) {
	block, _ := pem.Decode([]byte(pemText))
	if block == nil {
		return key, errors.New("private key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key, errors.New("private key is not PKCS#8")
	}
	key, ok := parsed.(K)
	if !ok {
		return key, errors.New("private key is not " + kind)
	}
	return key, nil
}
