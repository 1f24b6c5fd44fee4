package command

import (
	"cmp"
	"context"
	"slices"

	"github.com/rookery-im/rookery/group"
	"github.com/rookery-im/rookery/hooks"
	"github.com/rookery-im/rookery/storage"
)

func (t *Table) registerRooms() {
	e := t.env
	register(t, Command{Service: roomService, Name: "get_members", Doc: "Returns the newest of those who are online in a live room."}, e.getInside)
	register(t, Command{Service: roomService, Name: "modify_user_info", Changes: true, Doc: "Sets or removes the marks of accounts in a live room."}, e.markMembers)
	register(t, Command{Service: roomService, Name: "modify_admin", Changes: true, Doc: "Adds or removes admins of a live room."}, e.modifyRoomAdmins)
	register(t, Command{Service: roomService, Name: "get_admin_list", Doc: "Returns the admins of a live room."}, e.getRoomAdmins)
	register(t, Command{Service: roomService, Name: "check_members", Doc: "Returns which of the accounts are online in a live room."}, e.checkInside)
	register(t, Command{Service: groupService, Name: "ban_group_member", Changes: true, Doc: "Removes accounts from a live room and keeps them out."}, e.ban)
	register(t, Command{Service: groupService, Name: "unban_group_member", Changes: true, Doc: "Lets banned accounts come back."}, e.unban)
	register(t, Command{Service: groupService, Name: "get_group_ban_member", Doc: "Returns who is banned from a live room."}, e.getBanned)
}

const (
	maxInsideListed = 1000
	maxInsidePage   = 500
	maxMarked       = 500
	firstMark       = 1000 // marks of the app's own
	markStays       = 500  // counts as online for up to three days
	markHidden      = 600  // is not listed
	maxMarks        = 10
	maxRoomAdmins   = 5
	maxBanned       = 20
	maxBanPage      = 100
	maxDescription  = 1000 // bytes
	commandAdd      = 1
	commandRemove   = 2
)

// room returns a live room.
func (e *env) room(ctx context.Context, id group.ID) (*group.Group, error) {
	g, err := e.group(ctx, id)
	if err != nil {
		return nil, err
	}
	return g, isRoom(g)
}

func isRoom(g *group.Group) error {
	if g.Type != group.AVChatRoom {
		return notPermitted("only for groups of type %s", group.AVChatRoom)
	}
	return nil
}

type insideRequest struct {
	GroupID   group.ID `json:"GroupId" wire:"required"`
	Timestamp int      `json:"Timestamp" doc:"0 first, then the NextTimestamp of the answer before."`
	Mark      int64    `json:"Mark" doc:"Only accounts with this mark."`
}

type insideItem struct {
	Account  group.Account `json:"Member_Account"`
	JoinTime int64         `json:"JoinTime"`
	Nick     string        `json:"NickName"`
	Avatar   string        `json:"Avatar"`
}

type insideResponse struct {
	Members []insideItem `json:"MemberList"`
	Next    int          `json:"NextTimestamp" doc:"0: the end."`
}

func (e *env) getInside(ctx context.Context, _ *Call, r *insideRequest) (*insideResponse, error) {
	if r.Timestamp < 0 {
		return nil, badParameter("Timestamp is not what an answer gave")
	}
	g, err := e.room(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	inside, since, err := e.newestInside(ctx, g)
	if err != nil {
		return nil, err
	}
	if inside, err = e.listed(ctx, g, inside, r.Mark); err != nil {
		return nil, err
	}
	from := min(r.Timestamp, len(inside))
	page := inside[from:min(from+maxInsidePage, len(inside))]
	profiles, err := e.profiles(ctx, page)
	if err != nil {
		return nil, err
	}
	resp := &insideResponse{}
	for i, a := range page {
		item := insideItem{Account: a, JoinTime: since[a]}
		if p := profiles[i]; p != nil {
			item.Nick, item.Avatar = p.Nick, p.FaceURL
		}
		resp.Members = append(resp.Members, item)
	}
	if end := from + len(page); end < len(inside) {
		resp.Next = end
	}
	return resp, nil
}

// newestInside returns those who are online in the room and came last, and when they came in,
// in Unix seconds.
func (e *env) newestInside(ctx context.Context, g *group.Group) ([]group.Account, map[group.Account]int64, error) {
	inside, _ := e.online.InGroup(g.Key(), 0)
	since := make(map[group.Account]int64, len(inside))
	stored, err := e.members(ctx, g) // the owner and the admins
	if err != nil {
		return nil, nil, err
	}
	for _, m := range stored {
		since[m.Account] = m.JoinTime
	}
	err = e.update(ctx, g.ID, func(tx *hooks.Tx, _ *group.Group) error {
		for _, a := range inside {
			if m := tx.RoomMember(a); m != nil {
				since[a] = m.JoinTime
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(inside, func(a, b group.Account) int { return cmp.Compare(since[b], since[a]) })
	return inside[:min(len(inside), maxInsideListed)], since, nil
}

// listed leaves out who is hidden, or has not the mark that is asked for (0: any).
func (e *env) listed(ctx context.Context, g *group.Group, inside []group.Account, mark int64) ([]group.Account, error) {
	keys := make([]string, len(inside))
	for i, in := range inside {
		keys[i] = storage.MemberKey(g.Key(), in)
	}
	marks, err := storage.Marks.GetMany(ctx, e.store, keys)
	if err != nil {
		return nil, err
	}
	var out []group.Account
	for i, in := range inside {
		var have []int64
		if marks[i] != nil {
			have = marks[i].Marks
		}
		if !slices.Contains(have, markHidden) && (mark == 0 || slices.Contains(have, mark)) {
			out = append(out, in)
		}
	}
	return out, nil
}

type markItem struct {
	Account group.Account `json:"Member_Account" wire:"required,account"`
	Marks   []int64       `json:"Marks"`
}

type markRequest struct {
	GroupID group.ID   `json:"GroupId" wire:"required"`
	Command int        `json:"CommandType" wire:"required" doc:"1 set, 2 remove."`
	Members []markItem `json:"MemberList" wire:"required" doc:"At most 500."`
}

type markResponse struct {
	Command int           `json:"CommandType"`
	Members []accountItem `json:"MemberList"`
}

func (e *env) markMembers(ctx context.Context, _ *Call, r *markRequest) (*markResponse, error) {
	if r.Command != commandAdd && r.Command != commandRemove {
		return nil, badParameter("CommandType must be 1 or 2")
	}
	if len(r.Members) > maxMarked {
		return nil, tooMany(len(r.Members), maxMarked)
	}
	for _, m := range r.Members {
		for _, n := range m.Marks {
			if n < firstMark && n != markStays && n != markHidden {
				return nil, badParameter("a mark is at least %d, or %d or %d", firstMark, markStays, markHidden)
			}
		}
	}
	resp := &markResponse{Command: r.Command}
	err := e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if err := isRoom(g); err != nil {
			return err
		}
		resp.Members = nil
		changed := make(map[group.Account][]int64)
		for _, m := range r.Members {
			row := storage.MemberKey(g.Key(), m.Account)
			have, again := changed[m.Account]
			if !again {
				set, err := storage.Marks.Find(tx.Context(), tx.Store(), row)
				if err != nil {
					return err
				}
				if set != nil {
					have = set.Marks
				}
			}
			next := marked(have, m.Marks, r.Command)
			if len(next) > maxMarks {
				return badParameter("an account has at most %d marks", maxMarks)
			}
			if slices.Equal(next, have) {
				continue
			}
			changed[m.Account] = next
			resp.Members = append(resp.Members, accountItem{m.Account})
			if len(next) == 0 {
				tx.Write(storage.Marks.Delete(row))
			} else {
				tx.Write(storage.Marks.Put(row, &storage.MarkSet{Marks: next}))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// marked returns have with (or without) the marks; without any named, removing removes all.
func marked(have, marks []int64, command int) []int64 {
	out := slices.Clone(have)
	if command == commandRemove && len(marks) == 0 {
		return nil
	}
	for _, n := range marks {
		i := slices.Index(out, n)
		switch {
		case command == commandAdd && i < 0:
			out = append(out, n)
		case command == commandRemove && i >= 0:
			out = slices.Delete(out, i, i+1)
		}
	}
	return out
}

type roomAdminRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Command  int             `json:"CommandType" wire:"required" doc:"1 add, 2 remove."`
	Accounts []group.Account `json:"Admin_Account" wire:"required,account" doc:"At most 5; a room has at most 5 admins."`
}

func (e *env) modifyRoomAdmins(ctx context.Context, call *Call, r *roomAdminRequest) (*ok, error) {
	switch {
	case r.Command != commandAdd && r.Command != commandRemove:
		return nil, badParameter("CommandType must be 1 or 2")
	case len(r.Accounts) == 0:
		return nil, badParameter("Admin_Account is empty")
	case len(r.Accounts) > maxRoomAdmins:
		return nil, tooMany(len(r.Accounts), maxRoomAdmins)
	}
	accounts := distinct(r.Accounts)
	shown, err := e.shown(ctx, append(slices.Clone(accounts), call.Caller))
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		if shown[a] == nil {
			return nil, noAccount(a)
		}
	}
	return nil, e.update(ctx, r.GroupID, func(tx *hooks.Tx, g *group.Group) error {
		if err := isRoom(g); err != nil {
			return err
		}
		s := &stage{Tx: tx, e: e, call: call, shown: shown}
		admins, err := e.roomAdmins(tx, g)
		if err != nil {
			return err
		}
		for _, a := range accounts {
			m, err := tx.Member(a)
			if err != nil {
				return err
			}
			if m == nil {
				m = &group.Member{Account: a, Role: group.OrdinaryMember}
			}
			was := m.Role
			switch {
			case was == group.Owner:
				return badParameter("the owner needs no other role")
			case r.Command == commandAdd && was != group.Admin:
				admins++
				m.Role = group.Admin
			case r.Command == commandRemove && was == group.Admin:
				m.Role = group.OrdinaryMember
			default:
				continue
			}
			if admins > maxRoomAdmins {
				return badParameter("a room has at most %d admins", maxRoomAdmins)
			}
			if err := tx.PutMember(m); err != nil {
				return err
			}
			if err := e.tellRole(s, a, m.Role); err != nil {
				return err
			}
			body := afterMember{callback: s.head("Group.CallbackAfterMemberFieldChanged"), Operator: call.Caller, Modified: a, Role: m.Role.String()}
			s.Callback(body.Command, body)
		}
		return nil
	})
}

// roomAdmins counts the admins of a room.
func (e *env) roomAdmins(tx *hooks.Tx, g *group.Group) (n int, err error) {
	members, err := e.members(tx.Context(), g)
	for _, m := range members {
		if m.Role == group.Admin {
			n++
		}
	}
	return n, err
}

type roomAdminsResponse struct {
	Admins []group.Account `json:"Admin_List"`
}

func (e *env) getRoomAdmins(ctx context.Context, _ *Call, r *groupRequest) (*roomAdminsResponse, error) {
	g, err := e.room(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	members, err := e.members(ctx, g)
	if err != nil {
		return nil, err
	}
	resp := &roomAdminsResponse{}
	for _, m := range members {
		if m.Role == group.Admin {
			resp.Admins = append(resp.Admins, m.Account)
		}
	}
	return resp, nil
}

type checkInsideRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Accounts []group.Account `json:"Member_Account" wire:"required,account" doc:"At most 500."`
}

type checkInsideResponse struct {
	Accounts []group.Account `json:"Member_Account"`
}

func (e *env) checkInside(ctx context.Context, _ *Call, r *checkInsideRequest) (*checkInsideResponse, error) {
	if len(r.Accounts) > maxMarked {
		return nil, tooMany(len(r.Accounts), maxMarked)
	}
	g, err := e.room(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	inside, _ := e.online.InGroup(g.Key(), 0)
	there := make(map[group.Account]bool, len(inside))
	for _, in := range inside {
		there[in] = true
	}
	resp := &checkInsideResponse{}
	for _, a := range distinct(r.Accounts) {
		if there[a] {
			resp.Accounts = append(resp.Accounts, a)
		}
	}
	return resp, nil
}

type banRequest struct {
	GroupID     group.ID        `json:"GroupId" wire:"required"`
	Accounts    []group.Account `json:"Members_Account" wire:"required,account" doc:"At most 20."`
	Duration    uint32          `json:"Duration" wire:"required" doc:"Seconds."`
	Description string          `json:"Description" wire:"text" doc:"At most 1,000 bytes; shown to them."`
}

func (e *env) ban(ctx context.Context, call *Call, r *banRequest) (*ok, error) {
	switch {
	case len(r.Accounts) > maxBanned:
		return nil, tooMany(len(r.Accounts), maxBanned)
	case len(r.Accounts) == 0, r.Duration == 0:
		return nil, badParameter("Members_Account is empty, or Duration is 0")
	case len(r.Description) > maxDescription:
		return nil, badParameter("Description has %d bytes, at most %d are allowed", len(r.Description), maxDescription)
	}
	accounts := distinct(r.Accounts)
	return nil, e.act(ctx, call, r.GroupID, accounts, func(s *stage, g *group.Group, _ group.Role) error {
		if err := isRoom(g); err != nil {
			return err
		}
		until := min(s.Now().Unix()+int64(r.Duration), group.Forever)
		var gone []group.Account
		for _, a := range accounts {
			if !a.Valid() || a == g.Owner {
				return badParameter("the owner can't be banned, nor can what is no UserID")
			}
			s.notice(a, "Left", notice{ReportType: reportBanned, Reason: r.Description, Duration: int64(r.Duration)})
			was, err := s.RemoveMember(a)
			if err != nil {
				return err
			}
			if was {
				gone = append(gone, a)
			}
			s.Write(storage.Bans.Put(storage.MemberKey(g.Key(), a), &storage.Ban{Until: until, Description: r.Description}))
		}
		if len(gone) > 0 {
			body := afterExit{callback: s.head("Group.CallbackAfterMemberExit"), ExitType: "Kicked", Operator: call.Caller, Members: memberItems(gone)}
			s.Callback(body.Command, body)
		}
		return s.tip(g.Type.Rules().JoinTip, tip{
			OpType: tipBanned, List: accounts, MemberNum: g.MemberCount, BanDuration: int64(r.Duration), BanDescription: r.Description,
		})
	})
}

type unbanRequest struct {
	GroupID  group.ID        `json:"GroupId" wire:"required"`
	Accounts []group.Account `json:"Members_Account" wire:"required,account" doc:"At most 20."`
}

func (e *env) unban(ctx context.Context, call *Call, r *unbanRequest) (*ok, error) {
	if len(r.Accounts) > maxBanned {
		return nil, tooMany(len(r.Accounts), maxBanned)
	}
	accounts := distinct(r.Accounts)
	return nil, e.act(ctx, call, r.GroupID, accounts, func(s *stage, g *group.Group, _ group.Role) error {
		if err := isRoom(g); err != nil {
			return err
		}
		var freed []group.Account
		for _, a := range accounts {
			row := storage.MemberKey(g.Key(), a)
			b, err := storage.Bans.Find(s.Context(), s.Store(), row)
			if err != nil {
				return err
			}
			if b != nil {
				s.Write(storage.Bans.Delete(row))
				freed = append(freed, a)
			}
		}
		if len(freed) == 0 {
			return nil
		}
		return s.tip(g.Type.Rules().JoinTip, tip{OpType: tipUnbanned, List: freed, MemberNum: g.MemberCount})
	})
}

type bannedRequest struct {
	GroupID group.ID `json:"GroupId" wire:"required"`
	Limit   int      `json:"Limit" doc:"At most 100, which is the default."`
	Offset  int      `json:"Offset"`
}

type bannedItem struct {
	Account group.Account `json:"Member_Account"`
	Until   int64         `json:"BannedUntil" doc:"Unix seconds."`
}

type bannedResponse struct {
	Banned []bannedItem `json:"BannedAccountList"`
	Next   int          `json:"NextOffset" doc:"0: the end."`
}

func (e *env) getBanned(ctx context.Context, _ *Call, r *bannedRequest) (*bannedResponse, error) {
	if r.Limit < 0 || r.Limit > maxBanPage || r.Offset < 0 {
		return nil, badParameter("Limit must be at most %d, Offset not negative", maxBanPage)
	}
	if r.Limit == 0 {
		r.Limit = maxBanPage
	}
	g, err := e.room(ctx, r.GroupID)
	if err != nil {
		return nil, err
	}
	resp := &bannedResponse{}
	now, n := nowUnix(), 0
	for row, err := range storage.Bans.Scan(ctx, e.store, storage.Span{Prefix: storage.GroupPrefix(g.Key())}) {
		if err != nil {
			return nil, err
		}
		if row.Value.Until <= now {
			continue
		}
		if n++; n <= r.Offset {
			continue
		}
		if len(resp.Banned) == r.Limit {
			resp.Next = n - 1
			break
		}
		a, err := lastPart(row.Key)
		if err != nil {
			return nil, err
		}
		resp.Banned = append(resp.Banned, bannedItem{group.Account(a), row.Value.Until})
	}
	return resp, nil
}
