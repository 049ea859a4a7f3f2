package scoreboard

import "encoding/binary"

// Magic, Version and the sizes identify a file of this layout; a reader refuses any other.
const (
	Magic      = "BROODSCB"
	Version    = 3
	HeaderSize = 4096
	SlotSize   = 512
	MaxSlots   = 1 << 14
	EventSize  = 512
	Events     = 512 // that the ring holds

	maxPID = 1 << 22 // PID_MAX_LIMIT of Linux
)

// Offsets in the header. All of it is written by the parent.
const (
	hMagic      = 0  // 8 bytes
	hVersion    = 8  // u32
	hHeaderSize = 12 // u32
	hSlotSize   = 16 // u32
	hSlots      = 20 // u32
	hPID        = 24 // u64, the parent
	hStart      = 32 // u64, field 22 of /proc/PID/stat: pid and start name one process for one boot
	hBootID     = 40 // text, 40 bytes
	hCreated    = 80 // u64, ns since 1970
	hEventSize  = 88 // u32
	hEvents     = 92 // u32
	hUsed       = 96 // u64, all slots from this number on are free; 0: not said, or all are

	hStatus     = 128 // the block that is written again and again
	hUpdated    = 128 // u64, ns since 1970
	hGeneration = 136 // u64, the generation that serves
	hRolling    = 144 // u64, the generation being rolled in, 0: none
	hWant       = 152 // u64, children wanted
	hBorn       = 160 // u64, children started so far
	hDied       = 168 // u64, children that ended without being asked
	hKilled     = 176 // u64, children the parent killed
	hLost       = 184 // u64, clients that left a running job
	hDone       = 192 // u64, jobs done by children that are gone
	hReloadAt   = 200 // u64, ns since 1970, 0: never
	hReloadOK   = 208 // u64, 1: the last reload succeeded
	hSkipped    = 216 // u64, clients that had left before they were accepted, by children that are gone
	hState      = 224 // text, 24 bytes
	hRefused    = 248 // u64, clients that were refused, by children that are gone
	hReload     = 256 // text, 384 bytes: why the last reload was made, or why it failed
	hTrouble    = 640 // text, 128 bytes: what has failed, if the state is degraded
	hStatusEnd  = 768
	hName       = 768  // text, 128 bytes
	hProgram    = 896  // text, 512 bytes
	hListen     = 1408 // text, 512 bytes, addresses separated by spaces, NAME= before those that have one
	hPIDFile    = 1920 // text, 256 bytes
	hErrorLog   = 2176 // text, 256 bytes
	hAttention  = 2560 // u64 in a cache line of its own: 1 asks the next child that becomes busy to ring

	stateLen   = 24
	reloadLen  = 384
	troubleLen = 128
	nameLen    = 128
	programLen = 512
	listenLen  = 512
	pathLen    = 256
	bootLen    = 40
)

const attentionBusy = 1 << 32

// Offsets in a slot.
const (
	// Written by the parent.
	sPID        = 0  // u64, 0: not known yet
	sGeneration = 8  // u64
	sBorn       = 16 // u64, ns since 1970
	sPhase      = 24 // u64, a Phase
	sRevoked    = 32 // u64, serial of the job whose client has left, 0: none
	sKind       = 40 // u64, a Kind
	sCause      = 48 // text, 80 bytes: why the child was started
	causeLen    = 80
	parentPart  = 128

	// Written by the child.
	sState   = 128 // u64, a letter
	sSince   = 136 // u64, ns since 1970: since when that state holds
	sSerial  = 144 // u64, serial of the oldest job that runs, 0: none
	sDone    = 152 // u64, jobs ended
	sRunning = 160 // u64, jobs running
	sSkipped = 168 // u64, clients that had left before they were accepted
	sRefused = 176 // u64, clients that were refused
	sDuty    = 184 // u64, a Duty
	sSeq     = 192 // u64, odd while the record below is being written
	sJob     = 200 // u64, serial of the job that the record describes, 0: none
	sStarted = 208 // u64, ns since 1970
	sInode   = 216 // u64, inode of the job's socket, 0: none
	sLimit   = 224 // u64, ns of CLOCK_MONOTONIC: when the job's time is over, 0: never
	sClient  = 232 // text, 88 bytes
	sText    = 320 // text, 192 bytes

	clientLen = 88
	textLen   = 192
)

// Offsets in an event. All of it is written by the parent.
const (
	eSequence   = 0  // u64, 0: there has been none here
	eSum        = 8  // u64, CRC-64 (ECMA) of all other bytes
	eTime       = 16 // u64, ns since 1970
	eKind       = 24 // u32, an EventKind
	eSlot       = 28 // u32, slot + 1, 0: of no child
	ePID        = 32 // u64
	eGeneration = 40 // u64
	eJob        = 48 // u64
	eDone       = 56 // u64, jobs that a child has done which has ended
	eOperator   = 64 // u32, his process
	eUser       = 68 // u32, his user id + 1, 0: no operator
	eText       = 72 // text, 440 bytes
)

var order = binary.LittleEndian

// putText writes s into a field of fixed length, NUL-padded and cut at the field's end.
func putText(field []byte, s string) {
	n := copy(field, s)
	clear(field[n:])
}

// text reads a NUL-padded field.
func text(field []byte) string {
	for i, c := range field {
		if c == 0 {
			return string(field[:i])
		}
	}
	return string(field)
}
