package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rookery-im/rookery/push"
)

// Why a push that was due is not sent: the label reason.
const (
	dropDeadline  = "deadline"  // the message is too old
	dropOverflow  = "overflow"  // the queue is full
	dropCollapsed = "collapsed" // a newer message of a busy group stands for it
	dropWithdrawn = "withdrawn" // recalled, deleted, or nothing to show
	dropUnneeded  = "unneeded"  // the device came online, logged out, or wants quiet by now
	dropGaveUp    = "gave_up"   // no try is left
)

// Why a receipt is not taken: the label kind, beside what receipts tell.
const (
	receiptBadAddress = "bad_address" // the secret in it is wrong
	receiptUnsigned   = "unsigned"    // the vendor's signature is missing or wrong
	receiptMalformed  = "malformed"   // the request can't be read
	receiptFailed     = "failed"      // the store or a slot was not to be had: the vendor may repeat it
	receiptForeign    = "foreign"     // no parameter of ours: of no push of a group by this provider app
	receiptRepeated   = "repeated"
	receiptUnowned    = "unowned" // the token is nobody's by now, or its user is not in the group
)

type metrics struct {
	d       *Dispatcher
	sends   *prometheus.CounterVec
	latency *prometheus.HistogramVec
	dropped *prometheus.CounterVec
	removed *prometheus.CounterVec
	gates   *prometheus.CounterVec
	members prometheus.Counter
	reports *prometheus.CounterVec
	queued  *prometheus.Desc
	closed  *prometheus.Desc
	suspect *prometheus.Desc
}

func newMetrics(d *Dispatcher) *metrics {
	return &metrics{
		d: d,
		sends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_push_sends_total", Help: "Pushes to devices, by provider app and what the vendor made of them. Each try counts.",
		}, []string{"provider", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rookery_push_send_seconds", Help: "Time to send one task, which is one or several calls to the vendor.", Buckets: prometheus.ExponentialBuckets(0.005, 2, 13),
		}, []string{"provider"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_push_dropped_total", Help: "Messages and devices that were to be pushed and are not, by reason.",
		}, []string{"reason"}),
		removed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_push_tokens_removed_total", Help: "Device tokens removed because the vendor calls them dead.",
		}, []string{"provider"}),
		gates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_push_pauses_total", Help: "How often a provider app was paused, by reason.",
		}, []string{"provider", "reason"}),
		members: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rookery_push_members_total", Help: "Members of groups that were looked at for a push.",
		}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rookery_push_receipts_total", Help: "Receipts of vendors, by what they tell of a push or why they are not taken.",
		}, []string{"vendor", "kind"}),
		queued:  prometheus.NewDesc("rookery_push_queue_entries", "Messages whose members are to be looked at, and devices that are to be pushed to.", nil, nil),
		closed:  prometheus.NewDesc("rookery_push_paused", "1: the provider app is paused, for this reason.", []string{"provider", "reason"}, nil),
		suspect: prometheus.NewDesc("rookery_push_tokens_suspect", "1: so many tokens look dead that none is removed; look at the credentials.", []string{"provider"}, nil),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.sends, m.latency, m.dropped, m.removed, m.gates, m.members, m.reports}
}

// Describe implements prometheus.Collector.
func (d *Dispatcher) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range d.metrics.all() {
		c.Describe(ch)
	}
	ch <- d.metrics.queued
	ch <- d.metrics.closed
	ch <- d.metrics.suspect
}

// Collect implements prometheus.Collector.
func (d *Dispatcher) Collect(ch chan<- prometheus.Metric) {
	for _, c := range d.metrics.all() {
		c.Collect(ch)
	}
	ch <- prometheus.MustNewConstMetric(d.metrics.queued, prometheus.GaugeValue, float64(max(d.queued.Load(), 0)))
	now := time.Now()
	for _, l := range d.lines {
		state := l.gate.State(now, "")
		for _, reason := range []push.GateReason{push.GateThrottled, push.GateQuota, push.GateAuth, push.GateFailing} {
			ch <- prometheus.MustNewConstMetric(d.metrics.closed, prometheus.GaugeValue, one(state == reason), l.name, string(reason))
		}
		ch <- prometheus.MustNewConstMetric(d.metrics.suspect, prometheus.GaugeValue, one(l.guard.Suspect()), l.name)
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
