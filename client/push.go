package client

import "context"

// A PushToken is what a push vendor gave the app on this device.
type PushToken struct {
	Vendor    string `json:"Vendor,omitempty"` // apns, fcm, huawei, honor, xiaomi, oppo, vivo or meizu
	App       string `json:"App,omitempty"`    // the provider app's name in the server's configuration, where a vendor has several
	Token     string `json:"Token"`            // APNs: hex
	VoIPToken string `json:"VoIPToken,omitempty"`
}

// SetPushToken registers this device for offline push, in place of what it had registered
// before. Call it at every start of the app: the vendor may have changed the token.
func (c *Client) SetPushToken(ctx context.Context, t PushToken) error {
	return c.Call(ctx, "set_push_token", t, nil)
}

// DeletePushToken forgets this device's registration: a logout. Closing the client is only
// going offline.
func (c *Client) DeletePushToken(ctx context.Context) error {
	return c.Call(ctx, "delete_push_token", struct{}{}, nil)
}

// SetBadge tells the server what the app's icon shows; the next push counts on from there.
func (c *Client) SetBadge(ctx context.Context, badge int) error {
	return c.Call(ctx, "set_badge", struct{ Badge int }{badge}, nil)
}
