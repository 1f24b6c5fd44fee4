// Package crash kills a real rookery process at random moments while real MQTT clients send
// and receive, and checks after each restart that every promise was kept.
package crash
