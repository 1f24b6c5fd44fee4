package group

import (
	"fmt"
	"strings"
	"testing"
)

// TestAllows is the table of rights, cell by cell: for each operation and type, who may do it.
// O, A, M are owner, admin and ordinary member, and * is an app admin. Where an operation has a
// target, "A:M" says that an admin may do it to an ordinary member (and, so, to nobody else).
func TestAllows(t *testing.T) {
	const members = "*:OAM O:AM A:M" // by rank
	want := map[Operation]map[Type]string{
		EditInfo:       {Work: "*OAM", Public: "*OA", Meeting: "*OA", AVChatRoom: "*O", Community: "*OA"},
		EditSettings:   {Work: "*O", Public: "*OA", Meeting: "*OA", AVChatRoom: "*O", Community: "*OA"},
		Invite:         {Work: "*OAM", Public: "*", Meeting: "*", AVChatRoom: "", Community: "*OAM"},
		Remove:         {Work: members, Public: members, Meeting: members, AVChatRoom: "", Community: members},
		Mute:           {Work: "", Public: members, Meeting: members, AVChatRoom: "*:OAM O:AM", Community: members},
		SetAdmin:       {Work: "", Public: "*:AM O:AM", Meeting: "*:AM O:AM", AVChatRoom: "*:AM O:AM", Community: "*:AM O:AM"},
		EditMember:     {Work: members, Public: members, Meeting: members, AVChatRoom: "", Community: members},
		RecallOthers:   {Work: members, Public: members, Meeting: members, AVChatRoom: members, Community: members},
		ChangeOwner:    {Work: "*O", Public: "*O", Meeting: "*O", AVChatRoom: "", Community: "*O"},
		Dismiss:        {Work: "*", Public: "*O", Meeting: "*O", AVChatRoom: "*O", Community: "*O"},
		HandleRequests: {Work: "", Public: "*OA", Meeting: "*OA", AVChatRoom: "*OA", Community: "*OA"},
		Quit:           {Work: "OAM", Public: "AM", Meeting: "AM", AVChatRoom: "AM", Community: "AM"},
		ImportInto:     {Work: "*", Public: "*", Meeting: "*", AVChatRoom: "", Community: "*"},
	}
	letters := map[Role]string{NotMember: "-", OrdinaryMember: "M", Admin: "A", Owner: "O", AppAdmin: "*"}
	may := func(cell string, by, target Role) bool {
		if !strings.Contains(cell, ":") {
			return strings.Contains(cell, letters[by])
		}
		for entry := range strings.FieldsSeq(cell) {
			who, whom, _ := strings.Cut(entry, ":")
			if who == letters[by] {
				// A stranger ranks below every member: it may be muted, too.
				return strings.Contains(whom, letters[target]) || target == NotMember
			}
		}
		return false
	}
	for o := range Operations {
		for _, typ := range Types {
			cell, given := want[o][typ]
			if !given {
				t.Fatalf("no row for %s in %s", o, typ)
			}
			for by := NotMember; by <= AppAdmin; by++ {
				for target := NotMember; target <= Owner; target++ {
					if got := typ.Allows(o, by, target); got != may(cell, by, target) {
						t.Errorf("%s: may %s %s %s? %t", typ, fmt.Sprint(letters[by]), o, letters[target], got)
					}
				}
			}
		}
	}
	if NoType.Allows(EditInfo, AppAdmin, NotMember) || Work.Allows(Operations, AppAdmin, NotMember) {
		t.Error("something is allowed in no type, or an unknown operation")
	}
}
