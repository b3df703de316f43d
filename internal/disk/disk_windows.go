package disk

import "golang.org/x/sys/windows"

func at(path string) (Room, bool) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return Room{}, false
	}
	var r Room
	if err := windows.GetDiskFreeSpaceEx(name, &r.Free, &r.Total, nil); err != nil {
		return Room{}, false
	}
	return r, true
}
