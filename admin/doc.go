// Package admin is the REST door: it authenticates administrators, bounds what they may take,
// and hands their calls to the command table. It also serves health, metrics and, on request,
// profiles of the process.
//
// Answers of the API are HTTP 200 with JSON whatever happened, as Tencent IM's clients expect;
// only what is not the API has other statuses.
package admin
