// What the clients of 1.3 and 2.0 have in common.
package main

import "github.com/apache/iotdb-client-go/client"

const timeout = 5000

func fill(tablet *client.Tablet, rows int) {
	tablet.RowSize = rows
}

func BOOL(data *client.SessionDataSet, name string) bool {
	value, err := data.GetBoolean(name)
	must(err)
	return value
}
func INT(data *client.SessionDataSet, name string) int32 {
	value, err := data.GetInt(name)
	must(err)
	return value
}
func LONG(data *client.SessionDataSet, name string) int64 {
	value, err := data.GetLong(name)
	must(err)
	return value
}
func FLOAT(data *client.SessionDataSet, name string) float32 {
	value, err := data.GetFloat(name)
	must(err)
	return value
}
func DOUBLE(data *client.SessionDataSet, name string) float64 {
	value, err := data.GetDouble(name)
	must(err)
	return value
}
func TEXT(data *client.SessionDataSet, name string) string {
	value, err := data.GetString(name)
	must(err)
	return value
}
