package configs

import "time"

// MQTT is the TCP door.
type MQTT struct {
	Addr    string `yaml:"addr" default:"127.0.0.1:1883" doc:"host:port to listen on; port 0 takes a free one. Empty: off."`
	TLSAddr string `yaml:"tls_addr" default:"" doc:"host:port for MQTT over TLS, with the certificate of section tls. Empty: off."`
}

// WS is the WebSocket door.
type WS struct {
	Addr    string   `yaml:"addr" default:"127.0.0.1:8083" doc:"host:port to listen on; port 0 takes a free one. Empty: off."`
	TLSAddr string   `yaml:"tls_addr" default:"" doc:"host:port for secure WebSocket, with the certificate of section tls. Empty: off."`
	Path    string   `yaml:"path" default:"/mqtt" doc:"The URL path of the endpoint."`
	Origins []string `yaml:"origins" default:"" doc:"The Origin headers that browsers may send, as https://chat.example.com. Empty: any (a login needs a UserSig, never a cookie)."`
}

// HTTP is the server of REST, health and metrics.
type HTTP struct {
	Addr              string        `yaml:"addr" default:"127.0.0.1:8080" doc:"host:port to listen on; port 0 takes a free one. Empty: off."`
	TLSAddr           string        `yaml:"tls_addr" default:"" doc:"host:port for HTTPS, with the certificate of section tls. Empty: off."`
	ReadHeaderTimeout time.Duration `yaml:"read_header_timeout" default:"5s" min:"100ms" max:"10m" doc:"How long a request's header may take to arrive."`
	ReadTimeout       time.Duration `yaml:"read_timeout" default:"30s" min:"100ms" max:"10m" doc:"How long a whole request may take to arrive."`
	WriteTimeout      time.Duration `yaml:"write_timeout" default:"1m" min:"100ms" max:"1h" doc:"How long an answer may take, from the end of the request's header; downloads of exports are exempt."`
	IdleTimeout       time.Duration `yaml:"idle_timeout" default:"2m" min:"1s" max:"1h" doc:"How long a connection may wait for its next request."`
	HeaderSize        Size          `yaml:"header_size" default:"32KiB" min:"4KiB" max:"1MiB" doc:"The largest header of a request."`
	Connections       int           `yaml:"connections" default:"2000" min:"1" max:"1000000" unit:"connections" doc:"The most at a time; more wait to be accepted."`
	Pprof             bool          `yaml:"pprof" default:"false" doc:"Serve /debug/pprof on the HTTP listener, profiles of contended mutexes and of waiting included. It tells much about the process: only where the listener is not public."`
}

// TLS is the certificate.
type TLS struct {
	CertFile   string `yaml:"cert_file" default:"" doc:"The certificate chain, PEM."`
	KeyFile    string `yaml:"key_file" default:"" doc:"Its private key, PEM."`
	MinVersion string `yaml:"min_version" default:"1.2" oneof:"1.2|1.3" doc:"The oldest TLS version that is spoken."`
}

// Limits bounds what clients can take. A client over a limit is refused or closed with a
// reason; it never takes from others.
type Limits struct {
	MaxPacketSize              Size          `yaml:"max_packet_size" default:"256KiB" min:"16KiB" max:"16MiB" doc:"The largest MQTT packet from a client, announced to MQTT 5 clients. A larger one closes the connection before any of it is stored."`
	KeepAlive                  time.Duration `yaml:"keep_alive" default:"20m" min:"1s" max:"12h" doc:"The longest keep alive; a client that asks for more, or for none, gets this one."`
	ReceiveMaximum             int           `yaml:"receive_maximum" default:"256" min:"1" max:"65535" unit:"publishes" doc:"How many publishes of one connection may await their outcome, announced to MQTT 5 clients. Over it MQTT 5 clients are disconnected; for others reading pauses."`
	SendWindow                 int           `yaml:"send_window" default:"1024" min:"1" max:"32767" unit:"deliveries" doc:"How many QoS 1 deliveries to one connection may wait for their acknowledgement; less if the client's own Receive Maximum is."`
	Connections                int           `yaml:"connections" default:"50000" min:"0" max:"10000000" unit:"connections" doc:"The most MQTT connections in all. 0: no limit."`
	ConnectionsPerUser         int           `yaml:"connections_per_user" default:"10" min:"1" max:"10000" unit:"connections" doc:"The most MQTT connections of one user."`
	ConnectionsPerAddress      int           `yaml:"connections_per_address" default:"1000" min:"0" max:"10000000" unit:"connections" doc:"The most MQTT connections from one IP address (IPv6: one /64). 0: no limit."`
	ConnectsPerAddress         int           `yaml:"connects_per_address" default:"50" min:"0" max:"1000000" unit:"connections per second" doc:"How fast one IP address (IPv6: one /64) may open connections. 0: no limit."`
	ConnectBurstPerAddress     int           `yaml:"connect_burst_per_address" default:"200" min:"1" max:"1000000" unit:"connections" doc:"How many it may open at once before that rate applies."`
	TrackedAddresses           int           `yaml:"tracked_addresses" default:"100000" min:"100" max:"10000000" unit:"addresses" doc:"For how many addresses the rate is remembered; past it the one that was idle longest is forgotten."`
	CountLoopback              bool          `yaml:"count_loopback" default:"false" doc:"Whether the limits per address hold for loopback too."`
	UnauthenticatedConnections int           `yaml:"unauthenticated_connections" default:"5000" min:"1" max:"1000000" unit:"connections" doc:"The most connections that have not logged in yet; more are closed at once."`
	ConnectDeadline            time.Duration `yaml:"connect_deadline" default:"10s" min:"100ms" max:"10m" doc:"How long a new connection has to complete TLS, WebSocket upgrade and CONNECT."`
	SlowConsumerBytes          Size          `yaml:"slow_consumer_bytes" default:"1MiB" min:"64KiB" max:"1GiB" doc:"How much may wait to be written to one connection. A client that lets more gather is disconnected; it catches up from history."`
	SlowConsumerTime           time.Duration `yaml:"slow_consumer_time" default:"30s" min:"1s" max:"1h" doc:"How long a write to one connection may make no progress before it is disconnected."`
	SubscriptionsPerConnection int           `yaml:"subscriptions_per_connection" default:"1000" min:"1" max:"1000000" unit:"topic filters" doc:"The most topic filters of one connection."`
	MessageSize                Size          `yaml:"message_size" default:"12000" min:"100" max:"1MiB" unit:"bytes" doc:"The largest message: MsgBody as compact JSON plus CloudCustomData."`
	RPCPending                 int           `yaml:"rpc_pending" default:"16" min:"1" max:"10000" unit:"requests" doc:"How many RPC requests of one connection may be under way; more are answered with an error."`
	RPCTimeout                 time.Duration `yaml:"rpc_timeout" default:"10s" min:"100ms" max:"5m" doc:"How long one RPC request may take."`
}
